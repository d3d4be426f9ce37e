"""Labels of a data set compared with registrations from them."""
