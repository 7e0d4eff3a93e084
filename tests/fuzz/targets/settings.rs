#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| certificates::settings_document(data));
