//! A client that behaves, beside those that do not.
//!
//! It changes a job of its own, is told of the change by the job's events, reads the job, its log and the list, and begins
//! again, over two connections that it keeps. Every answer must be exactly what it should be, and come.

use std::net::SocketAddr;

use serde_json::json;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::talker::{Talker, get};
use crate::campaign::process::PATIENCE;

/// How many times it must get round for a test to believe that it goes on as before.
const ROUNDS: u64 = 3;

/// What is wished of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    Work,
    Rest,
    Leave,
}

pub(super) struct Polite {
    rounds: watch::Receiver<u64>,
    wish: watch::Sender<Wish>,
    at_work: JoinHandle<()>,
}

impl Polite {
    /// One that has been served already.
    pub(super) async fn arrives(address: SocketAddr) -> Self {
        let (wish, wished) = watch::channel(Wish::Work);
        let (round, rounds) = watch::channel(0);
        let at_work = tokio::spawn(work(address, round, wished));
        let mut polite = Self { rounds, wish, at_work };
        polite.goes_on().await;
        polite
    }

    /// Returns when it has got round a few times more.
    pub(super) async fn goes_on(&mut self) {
        self.wish.send_replace(Wish::Work);
        let enough = *self.rounds.borrow() + ROUNDS;
        let gone_on = timeout(PATIENCE, self.rounds.wait_for(|round| *round >= enough)).await;
        if gone_on.expect("the client that behaves gets on").is_err() {
            (&mut self.at_work).await.expect("the client that behaves has nothing to complain about");
        }
    }

    /// Each of its rounds, for others to keep pace with.
    pub(super) fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.clone()
    }

    /// Asks for nothing once it has got round, until it goes on.
    pub(super) fn rests(&self) {
        self.wish.send_replace(Wish::Rest);
    }

    /// Lets it finish what it is at, and returns how often it got round.
    pub(super) async fn leaves(self) -> u64 {
        self.wish.send_replace(Wish::Leave);
        self.at_work.await.expect("the client that behaves has nothing to complain about");
        *self.rounds.borrow()
    }
}

async fn work(address: SocketAddr, rounds: watch::Sender<u64>, mut wished: watch::Receiver<Wish>) {
    let mut talker = Talker::connect(address).await;
    talker.ask("PUT", "/jobs/polite", &json!({"kind": "polite"})).await.is(201);
    let mut events = Talker::connect(address).await;
    events.say(get("/jobs/polite/events?logs=all")).await;
    events.hear_up_to("\"version\":1,").await.expect("its events begin");
    for round in 1.. {
        // Nobody wishes anything of it any more when its test has failed.
        if wished.wait_for(|wish| *wish != Wish::Rest).await.map_or(Wish::Leave, |wish| *wish) == Wish::Leave {
            break;
        }
        let stage = format!("<{round}>");
        let changed = talker.ask("PATCH", "/jobs/polite", &json!({"stage": stage, "log": stage})).await.is(200).json();
        let expected = (json!(round + 1), json!(stage), json!([stage]));
        assert_eq!((&changed["version"], &changed["stage"], &changed["logs"]), (&expected.0, &expected.1, &expected.2));

        let told = events.hear_up_to(&format!("\"stage\":\"{stage}\"")).await.expect("its events go on");
        assert_eq!(told.matches("event: log\n").count(), 1, "{told}");
        assert!(told.contains(&format!("\"line\":\"{stage}\"")), "{told}");

        let read = talker.get("/jobs/polite?logs=1").await.is(200).json();
        assert_eq!((&read["version"], &read["stage"], &read["logs"]), (&expected.0, &expected.1, &expected.2));
        let page = talker.get(&format!("/jobs/polite/logs?after={}", round - 1)).await.is(200).json();
        assert_eq!((page["lines"][0]["seq"].as_u64(), &page["lines"][0]["line"]), (Some(round), &expected.1));
        let list = talker.get("/jobs?kind=polite").await.is(200).json();
        assert_eq!((&list["jobs"][0]["version"], list["jobs"].as_array().map(Vec::len)), (&expected.0, Some(1)));
        // Whoever looks at it may have gone.
        let _unseen = rounds.send(round);
    }
    talker.ask("PATCH", "/jobs/polite", &json!({"status": "completed"})).await.is(200);
    let told = events.hear_up_to("event: end\n").await.expect("its events come to their end");
    assert!(told.contains("\"status\":\"completed\"") && !told.contains("event: log\n"), "{told}");
}
