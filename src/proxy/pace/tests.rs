//! Requests that are held, over time.

use std::sync::atomic::AtomicUsize;

use prometheus::Registry;
use tokio::{
    task::{JoinHandle, spawn_local},
    time::sleep,
};

use super::{line::MOST_WAITING, *};
use crate::{
    clock::ManualClock,
    proxy::quota::{QuotaFamilies, QuotaSeries},
};

const MINUTE: Duration = Duration::from_secs(60);

struct Bench {
    clock: Arc<ManualClock>,
    pacer: Arc<Pacer>,
    series: QuotaSeries,
    started: Instant,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let families = QuotaFamilies::register(&Registry::new()).unwrap();
        Self {
            pacer: Arc::new(Pacer::new(Arc::clone(&clock) as Arc<dyn Clock>)),
            clock,
            series: families.upstream("lms", true),
            started: Instant::now(),
        }
    }

    fn throttled(seconds: u64) -> Self {
        let bench = Self::new();
        assert!(bench.pacer.close(wait(seconds)));
        bench
    }

    /// A request that waits for its turn; when it had it (in seconds since the start), and the turn.
    fn request(&self, longest: Duration) -> JoinHandle<(u64, Option<Turn>)> {
        let (pacer, series) = (Arc::clone(&self.pacer), self.series.pace().clone());
        let started = self.started;
        spawn_local(async move {
            let turn = Pacer::turn(&pacer, longest, &series).await;
            (started.elapsed().as_secs(), turn)
        })
    }

    fn counts(&self) -> [u64; 4] {
        let PaceSeries {
            held,
            too_long,
            full,
            abandoned,
            ..
        } = self.series.pace();
        [held, too_long, full, abandoned].map(prometheus::IntCounter::get)
    }

    fn waiters(&self) -> i64 {
        self.series.pace().waiters.get()
    }
}

fn wait(seconds: u64) -> Wait {
    Wait::For(Duration::from_secs(seconds))
}

async fn a_moment() {
    sleep(Duration::from_millis(1)).await;
}

async fn on_one_thread(work: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(work).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_while_the_lms_asks_for_nothing() {
    on_one_thread(async {
        let bench = Bench::new();
        assert!(bench.pacer.is_open());
        let (at, turn) = bench.request(MINUTE).await.unwrap();
        assert_eq!((at, turn.is_none()), (0, true));
        assert_eq!(bench.counts(), [0; 4]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_until_the_lms_takes_it_and_its_answer_opens_the_line() {
    on_one_thread(async {
        let bench = Bench::throttled(7);
        let request = bench.request(MINUTE);
        a_moment().await;
        assert_eq!(bench.waiters(), 1);
        let (at, turn) = request.await.unwrap();
        assert_eq!(at, 7);
        assert!(!bench.pacer.is_open(), "nobody knows yet");
        turn.unwrap().finish();
        assert!(bench.pacer.is_open());
        assert_eq!((bench.waiters(), bench.counts()), (0, [1, 0, 0, 0]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_go_one_after_the_other_and_not_all_at_once() {
    on_one_thread(async {
        let bench = Bench::throttled(7);
        let out = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let requests: Vec<_> = (0..7)
            .map(|_| {
                let request = bench.request(MINUTE);
                let (out, most) = (Arc::clone(&out), Arc::clone(&most));
                spawn_local(async move {
                    let (at, turn) = request.await.unwrap();
                    let now = out.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    // The LMS takes a second for each.
                    sleep(Duration::from_secs(1)).await;
                    out.fetch_sub(1, Ordering::SeqCst);
                    turn.unwrap().finish();
                    at
                })
            })
            .collect();
        let mut times = Vec::new();
        for request in requests {
            times.push(request.await.unwrap());
        }
        assert_eq!(times, [7, 8, 8, 9, 9, 9, 9]);
        assert_eq!(most.load(Ordering::SeqCst), 4);
        assert!(bench.pacer.is_open());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_too_long_goes_at_once_and_who_has_goes_then() {
    on_one_thread(async {
        let bench = Bench::throttled(30);
        let (at, turn) = bench.request(Duration::from_secs(29)).await.unwrap();
        assert_eq!((at, turn.is_none()), (0, true));

        let request = bench.request(Duration::from_secs(31));
        sleep(Duration::from_secs(29)).await;
        bench.pacer.close(wait(30));
        let (at, turn) = request.await.unwrap();
        assert_eq!((at, turn.is_none()), (31, true));
        assert_eq!(bench.counts(), [0, 2, 0, 0]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_more_than_may_wait_goes_at_once() {
    on_one_thread(async {
        let bench = Bench::throttled(30);
        let _held: Vec<_> = (0..MOST_WAITING).map(|_| bench.request(MINUTE)).collect();
        a_moment().await;
        let (at, turn) = bench.request(MINUTE).await.unwrap();
        assert_eq!((at, turn.is_none()), (0, true));
        assert_eq!(bench.counts(), [0, 0, 1, 0]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_leaves_frees_its_place_in_the_line_and_outside() {
    on_one_thread(async {
        let bench = Bench::throttled(10);
        let first = bench.request(MINUTE);
        let second = bench.request(MINUTE);
        let third = bench.request(MINUTE);
        a_moment().await;
        first.abort();
        a_moment().await;
        assert_eq!((bench.waiters(), bench.counts()[3]), (2, 1));

        let (at, turn) = second.await.unwrap();
        assert_eq!(at, 10);
        // It left while the LMS was about to answer: that says nothing of the LMS.
        drop(turn);
        let (at, turn) = third.await.unwrap();
        assert_eq!(at, 10);
        assert!(!bench.pacer.is_open());
        turn.unwrap().finish();
        assert!(bench.pacer.is_open());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_in_the_moment_of_its_turn_lets_the_next_one_go() {
    on_one_thread(async {
        let bench = Bench::throttled(10);
        let first = bench.request(MINUTE);
        let second = bench.request(MINUTE);
        a_moment().await;
        bench.clock.suspend(Duration::from_secs(10));
        // The first is told to go, and is gone before it hears of it.
        bench.pacer.update(|_, _| ());
        first.abort();
        let (_, turn) = second.await.unwrap();
        turn.unwrap().finish();
        assert!(bench.pacer.is_open());
        assert_eq!(bench.counts(), [1, 0, 0, 1]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_refusal_holds_those_that_are_left() {
    on_one_thread(async {
        let bench = Bench::throttled(5);
        let first = bench.request(MINUTE);
        let second = bench.request(MINUTE);
        let (at, turn) = first.await.unwrap();
        assert_eq!(at, 5);
        assert!(!bench.pacer.close(wait(10)), "it was not open");
        turn.unwrap().finish();
        assert_eq!(second.await.unwrap().0, 15);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_time_that_passes_in_suspend_counts_and_a_step_of_the_wall_clock_does_not() {
    on_one_thread(async {
        let bench = Bench::throttled(30);
        bench.clock.step_wall(3_600_000);
        bench.clock.suspend(Duration::from_secs(20));
        let (at, _turn) = bench.request(MINUTE).await.unwrap();
        assert_eq!(at, 10);
    })
    .await;
}

/// Over all workers, each on a thread of its own.
#[test]
fn the_line_holds_across_threads() {
    let pacer = Arc::new(Pacer::new(Arc::new(crate::clock::SystemClock)));
    let families = QuotaFamilies::register(&Registry::new()).unwrap();
    let series = families.upstream("lms", true);
    pacer.close(Wait::For(Duration::from_millis(50)));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (pacer, series) = (Arc::clone(&pacer), series.pace().clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .unwrap();
                let set = tokio::task::LocalSet::new();
                for _ in 0..25 {
                    let (pacer, series) = (Arc::clone(&pacer), series.clone());
                    set.spawn_local(async move {
                        if let Some(turn) = Pacer::turn(&pacer, MINUTE, &series).await {
                            tokio::task::yield_now().await;
                            turn.finish();
                        }
                    });
                }
                runtime.block_on(set);
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(pacer.is_open());
    assert_eq!(series.pace().waiters.get(), 0);
    assert_eq!(series.pace().too_long.get(), 0);
}
