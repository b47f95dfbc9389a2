// SPDX-License-Identifier: GPL-2.0-only

//! Makes copies of the pure files in which `usize` is as wide as on a 32-bit kernel, see
//! `src/narrow.rs`.

use std::{
    env,
    fs,
    path::Path, //
};

fn main() {
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");

    for name in ["extent.rs", "layout.rs"] {
        // From the folder of this file, which build scripts run in.
        let source = format!("../../src/{name}");
        println!("cargo:rerun-if-changed={source}");
        let text =
            fs::read_to_string(&source).unwrap_or_else(|err| panic!("cannot read {source}: {err}"));
        // The documentation of a whole file cannot be included in another file.
        let code: String = text
            .lines()
            .map(|line| if line.starts_with("//!") { "" } else { line })
            .flat_map(|line| [line, "\n"])
            .collect();
        // An alias in scope goes before the built-in type of that name.
        let code = format!("#[allow(non_camel_case_types)]\ntype usize = u32;\n{code}");
        fs::write(Path::new(&out).join(name), code).expect("OUT_DIR can be written to");
    }
}
