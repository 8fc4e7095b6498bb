"""`crossband serve`: a page on which people look at scenes and translate them."""
