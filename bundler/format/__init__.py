"""What travels on the stick. Knows neither network nor cache."""
