// SPDX-License-Identifier: GPL-2.0-only

//! Tests of the pure files of the module, which are part of this crate as they are.
//!
//! `wide` and `narrow` have the files that count pages, and their tests, once as on 64-bit and
//! once as on 32-bit kernels.

#![cfg(test)]
#![allow(clippy::duplicate_mod)]

#[path = "../../../src/options.rs"]
mod options;
#[path = "../../../src/reason.rs"]
mod reason;
#[path = "../../../src/state.rs"]
mod state;

mod header;
mod narrow;
mod options_test;
mod reason_test;
mod state_test;
mod wide;
