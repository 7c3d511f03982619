//! See `purser::fuzz::protobuf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| purser::fuzz::protobuf(data));
