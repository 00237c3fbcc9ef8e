//! The service from outside, and what it stands on: one binary, one file for each chapter.
#![cfg(test)]

mod engine;
mod imports;
mod readme;
