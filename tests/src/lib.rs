//! slmc-tests
