//! Scenarios live in `scenarios/`; this library is empty.
