//! Tests over the whole workspace; the crate itself holds nothing.
