//! The service from outside, and what it stands on: one binary, one file for each chapter.
#![cfg(test)]

#[macro_use]
mod harness;

mod batch;
mod browser;
#[path = "../campaign/mod.rs"]
mod campaign;
mod claim;
mod commands;
mod connections;

mod create;
mod deadlines;
mod docs;
mod engine;
mod errors;
mod events;
mod feed;
mod follow;
mod imports;
mod legacy;
mod list;
mod logs;
mod openapi;
mod ops;
mod outages;
mod patch;
mod process;
mod races;
mod random;
mod read;
mod readme;
mod replicas;
mod run;
mod stats;
mod stream;
mod timelines;
mod verify;
mod wait;
mod websocket;
