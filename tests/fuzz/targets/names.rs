#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| certificates::names(text));
