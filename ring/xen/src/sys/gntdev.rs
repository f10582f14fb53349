//! gntdev.
