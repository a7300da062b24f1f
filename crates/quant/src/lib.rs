//! slmc-quant
