//! slmc-calibration
