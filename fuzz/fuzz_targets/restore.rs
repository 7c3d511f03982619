//! See `purser::fuzz::restore`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| purser::fuzz::restore(data));
