//! Has what is to run before everything else be a function that can be called. Burn's compiler of shaders registers its parts there; the
//! linker, left to itself, has all of it run at every call of an export, and a string has several.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|it| it == value);
    if is("CARGO_CFG_TARGET_ARCH", "wasm32") && is("CARGO_FEATURE_DISTILL", "1") {
        println!("cargo::rustc-link-arg-cdylib=--export=__wasm_call_ctors");
    }
}
