//! See `purser::fuzz::certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| purser::fuzz::certificate(data));
