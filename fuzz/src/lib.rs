//! Runs the laws of `fermion-laws` under libFuzzer. Start it with `cargo xtask fuzz`.

pub use {fermion_laws, libfuzzer_sys};

/// A fuzz target that holds a law, by its name, against what the fuzzer thinks of.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            use std::sync::{LazyLock, Mutex};
            static LAW: LazyLock<Mutex<$crate::fermion_laws::Law>> = LazyLock::new(|| Mutex::new($crate::fermion_laws::Law::named($name)));
            LAW.lock().expect("a panic ends the program").check(bytes);
        });
    };
}
