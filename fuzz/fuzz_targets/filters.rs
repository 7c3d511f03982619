//! See `purser::fuzz::filters`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| purser::fuzz::filters(data));
