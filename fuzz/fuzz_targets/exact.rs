#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| galen_fuzz::exact::exact(data));
