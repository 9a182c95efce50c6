//! Configuration files and values as users write them, with errors that point at the place.
