"""Results as text for people and as JSON for programs, a module for each verb. Pure: values in, text out."""
