//! Frames that no decent application sends, byte by byte.

use super::{http2::serve_on, *};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PROTOCOL_ERROR: u8 = 1;
const FRAME_SIZE_ERROR: u8 = 6;
const ENHANCE_YOUR_CALM: u8 = 11;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let head = [0, 0, length, kind, flags, 0, 0, 0, stream];
    [&head, payload].concat()
}

/// A request for `/slow` with one more field, which is not looked at.
fn request(stream: u8, field: &[u8]) -> Vec<u8> {
    let block = [b"\x82\x86\x41\x01a\x04\x05/slow", field].concat();
    frame(1, 0x5, stream, &block)
}

/// The reason in the GOAWAY with which it ends, and what was counted.
async fn end_of(bytes: &[u8]) -> (Option<u8>, Vec<Code>) {
    let (mut ours, theirs) = duplex(1024 * 1024);
    let served = serve_on(theirs);
    ours.write_all(PREFACE).await.unwrap();
    ours.write_all(bytes).await.unwrap();
    let mut said = Vec::new();
    ours.read_to_end(&mut said).await.unwrap();
    let (mut rest, mut reason) = (&said[..], None);
    while let [a, b, c, kind, _, _, _, _, _, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let (payload, next) = after.split_at(length);
        if *kind == 7 {
            reason = Some(payload[7]);
        }
        rest = next;
    }
    assert!(rest.is_empty(), "no frame is cut");
    tokio::task::yield_now().await;
    assert_eq!(served.running.get(), 0);
    let refused = served.refused.borrow().clone();
    (reason, refused)
}

#[test]
fn a_flood_of_frames_that_carry_nothing_ends_the_connection_and_is_counted_once() {
    run(async {
        for (what, flood) in [
            ("PING", frame(6, 0, 0, b"12345678")),
            ("PING, acknowledged", frame(6, 1, 0, b"12345678")),
            ("SETTINGS", frame(4, 0, 0, &[])),
            ("WINDOW_UPDATE", frame(8, 0, 0, &[0, 0, 0, 1])),
            ("WINDOW_UPDATE of a stream", frame(8, 0, 1, &[0, 0, 0, 1])),
            ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 9])),
            ("an unknown frame", frame(0xfa, 0, 1, b"grease")),
        ] {
            let flood = [request(1, &[]), flood.repeat(2_000)].concat();
            let end = end_of(&flood).await;
            let expected = (Some(ENHANCE_YOUR_CALM), vec![Code::FramingInvalid]);
            assert_eq!(end, expected, "{what}");
        }
    });
}

#[test]
fn what_h2_refuses_on_a_connection_ends_it_and_is_counted_once() {
    run(async {
        for (what, bytes, reason) in [
            (
                "an upper-case name",
                request(1, b"\0\x01X\x01y"),
                PROTOCOL_ERROR,
            ),
            (
                "LF in a value",
                request(1, b"\0\x01x\x03a\nb"),
                PROTOCOL_ERROR,
            ),
            (
                "NUL in a value",
                request(1, b"\0\x01x\x03a\0b"),
                PROTOCOL_ERROR,
            ),
            (
                "an unknown pseudo-header field",
                request(1, b"\0\x02:x\x01y"),
                PROTOCOL_ERROR,
            ),
            ("an even stream", request(2, &[]), PROTOCOL_ERROR),
            (
                "a reset of nothing",
                frame(3, 0, 9, &[0, 0, 0, 8]),
                PROTOCOL_ERROR,
            ),
            (
                "a frame of 16 MiB",
                vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
                FRAME_SIZE_ERROR,
            ),
            (
                "empty DATA",
                [
                    frame(1, 0x4, 1, b"\x83\x86\x41\x01a\x84"),
                    frame(0, 0, 1, &[]).repeat(200),
                ]
                .concat(),
                ENHANCE_YOUR_CALM,
            ),
        ] {
            let end = end_of(&bytes).await;
            assert_eq!(end, (Some(reason), vec![Code::FramingInvalid]), "{what}");
        }
    });
}

#[test]
fn an_application_that_takes_leave_or_just_goes_is_not_counted() {
    run(async {
        let goaway = frame(7, 0, 0, &[0; 8]);
        assert_eq!(end_of(&goaway).await.1, []);
        let broken_off = [0, 0, 9, 1, 5];
        let (mut ours, theirs) = duplex(4096);
        let served = serve_on(theirs);
        ours.write_all(&[PREFACE, &request(1, &[]), &broken_off].concat())
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(served.running.get(), 1);
        drop(ours);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(served.running.get(), 0);
        assert_eq!(*served.refused.borrow(), []);
    });
}
