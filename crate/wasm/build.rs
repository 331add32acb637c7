//! Exports the constructors, so that whoever loads the module runs them once. Burn's compiler of shaders registers its parts in them; left
//! to itself, the linker has all of them run at every call of an export, and a string that is passed takes several.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|it| it == value);
    if is("CARGO_CFG_TARGET_ARCH", "wasm32") && is("CARGO_FEATURE_DISTILL", "1") {
        println!("cargo::rustc-link-arg-cdylib=--export=__wasm_call_ctors");
    }
}
