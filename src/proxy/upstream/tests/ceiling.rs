//! How many connections there are, and who waits.

use super::*;

#[tokio::test(flavor = "local")]
async fn fifty_requests_at_once_share_four_connections() {
    let lms = Rc::new(Lms::start().await);
    let client = lms.client();
    let accepted = Rc::new(Cell::new(0));
    let counter = Rc::clone(&accepted);
    let listening = Rc::clone(&lms);
    spawn_local(async move {
        loop {
            let peer = listening.accept().await;
            counter.set(counter.get() + 1);
            spawn_local(serve(peer));
        }
    });
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let client = Rc::clone(&client);
            spawn_local(async move { text(client.send(get()).await?).await })
        })
        .collect();
    for request in requests {
        assert_eq!(soon(request).await.unwrap().unwrap(), "ok");
    }
    assert_eq!(accepted.get(), 4);
    lms.settles_at(4, 0).await;
}

#[tokio::test(flavor = "local")]
async fn who_finds_no_connection_in_time_is_told_so() {
    let mut lms = Lms::start().await;
    lms.params.max_connections = 1;
    lms.params.dialer.timeout = Duration::from_millis(500);
    let client = lms.client();
    let (held, _peer) = first(&lms, &client, OK).await;
    let refused = client.send(get()).await;
    assert!(matches!(refused, Err(UpstreamError::Saturated)));
    assert_eq!(lms.errors("saturated"), "1");
    drop(held);
}

#[tokio::test(flavor = "local")]
async fn those_who_wait_are_served_in_their_order_and_the_gone_are_skipped() {
    let mut lms = Lms::start().await;
    lms.params.max_connections = 1;
    let client = lms.client();
    let (held, mut peer) = first(&lms, &client, OK).await;
    let order = Rc::new(std::cell::RefCell::new(vec![]));
    let mut waiting: Vec<_> = (0..4)
        .map(|number| {
            let (client, order) = (Rc::clone(&client), Rc::clone(&order));
            spawn_local(async move {
                let response = client.send(get()).await.unwrap();
                order.borrow_mut().push(number);
                text(response).await.unwrap();
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let gone = waiting.remove(1);
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    text(held.unwrap()).await.unwrap();
    for _ in 0..3 {
        peer.answer(OK).await;
    }
    for request in waiting {
        soon(request).await.unwrap();
    }
    assert_eq!(*order.borrow(), [0, 2, 3]);
    lms.settles_at(1, 0).await;
}

#[tokio::test(flavor = "local")]
async fn a_failed_exchange_passes_its_place_on() {
    let mut lms = Lms::start().await;
    lms.params.max_connections = 1;
    let client = lms.client();
    let (held, _peer) = first(&lms, &client, OK).await;
    let (next, ()) = join!(client.send(get()), async {
        drop(held);
        lms.accept().await.answer(OK).await;
    });
    assert_eq!(text(next.unwrap()).await.unwrap(), "ok");
}

#[tokio::test(flavor = "local")]
async fn an_lms_that_refuses_connections_is_unreachable() {
    let mut lms = Lms::start().await;
    // Bound and not listening: nobody else can get this port, and nobody answers on it.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    lms.params.dialer.origin.port = silent.local_addr().unwrap().port();
    let refused = lms.client().send(get()).await;
    assert!(matches!(refused, Err(UpstreamError::Connect(_))));
    assert_eq!(lms.errors("connect"), "1");
    assert_eq!(lms.metric("connects_total{result=\"connect\"}"), "1");
    lms.settles_at(0, 0).await;
}
