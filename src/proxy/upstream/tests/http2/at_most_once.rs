//! Whatever the LMS does, it never processes one request twice, and nobody is told that it did what it
//! did not do.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
};

use proptest::prelude::*;
use tokio::runtime::{Builder, LocalOptions};

use super::*;

const REQUESTS: usize = 8;

/// What the LMS does with the next request that it has read.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Does it, and says so.
    Answer,
    /// Says that it has not done it, and has not.
    Refuse,
    /// The same for all that come after it on the connection, which it closes.
    GoAwayBefore,
    /// Does it, says so, and closes the connection.
    GoAwayAfter,
    /// Does it, and resets the stream.
    Reset,
    /// Does it, and hangs up.
    HangUp,
}

#[derive(Default)]
struct Script {
    acts: RefCell<VecDeque<Act>>,
    done: RefCell<HashMap<String, usize>>,
}

impl Script {
    fn done(&self, body: &[u8]) {
        let id = String::from_utf8(body.to_vec()).unwrap();
        *self.done.borrow_mut().entry(id).or_default() += 1;
    }

    async fn play(self: Rc<Self>, stream: tokio::net::TcpStream) {
        let mut peer = FramePeer::start(stream, &[]).await;
        loop {
            let (stream, body) = match peer.event().await {
                Event::Request { stream, body } => (stream, body),
                Event::End => return,
                _ => continue,
            };
            let act = self.acts.borrow_mut().pop_front().unwrap_or(Act::Answer);
            match act {
                Act::Answer => {
                    self.done(&body);
                    peer.answer(stream, &body).await;
                }
                Act::Refuse => peer.reset(stream, REFUSED_STREAM).await,
                Act::GoAwayBefore => {
                    peer.go_away(stream.saturating_sub(2)).await;
                    return;
                }
                Act::GoAwayAfter => {
                    self.done(&body);
                    peer.answer(stream, &body).await;
                    peer.go_away(stream).await;
                    return;
                }
                Act::Reset => {
                    self.done(&body);
                    peer.reset(stream, INTERNAL_ERROR).await;
                }
                Act::HangUp => {
                    self.done(&body);
                    return;
                }
            }
        }
    }
}

async fn play(acts: Vec<Act>) {
    let lms = Rc::new(lms().await);
    let client = lms.client();
    let script = Rc::new(Script::default());
    script.acts.borrow_mut().extend(acts);
    let (listening, playing) = (Rc::clone(&lms), Rc::clone(&script));
    spawn_local(async move {
        loop {
            let peer = listening.accept().await;
            spawn_local(Rc::clone(&playing).play(peer.stream));
        }
    });
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let requests = ids.map(|id| (id, sending(&client, post(id))));
    for (id, request) in requests {
        let answer = soon(request).await.unwrap();
        let done = script.done.borrow().get(id).copied().unwrap_or(0);
        assert!(done <= 1, "{id} was processed {done} times");
        if let Ok(answer) = answer {
            assert_eq!((answer.as_str(), done), (id, 1));
        }
    }
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Answer),
        2 => Just(Act::Refuse),
        1 => Just(Act::GoAwayBefore),
        1 => Just(Act::GoAwayAfter),
        1 => Just(Act::Reset),
        1 => Just(Act::HangUp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_post_is_processed_at_most_once(
        acts in prop::collection::vec(any_act(), 0..3 * REQUESTS)
    ) {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .unwrap();
        runtime.block_on(play(acts));
    }
}
