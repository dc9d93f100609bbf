#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sluicegate_fuzz::kafka_answer(bytes));
