//! The frame decoder against bytes that nobody meant, and against another implementation of the same protocol.
//!
//! `TIDINGS_FUZZ_CASES` sets how many cases there are (100,000 without it), `TIDINGS_FUZZ_SEED` repeats a run.

#![allow(clippy::unwrap_used, missing_docs, clippy::print_stdout, reason = "tests")]

use std::{
    env,
    io::{self, Read, Write},
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use tidings_edge::websocket::{
    codec::{self, Decoder, Flow, Incoming},
    format::Format,
};
use tokio_tungstenite::tungstenite::{
    self, Message,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

const MESSAGE_BYTES_MAX: usize = 2_000;

/// What came out of a decoder.
#[derive(Debug, Clone, PartialEq)]
enum Out {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap())
}

/// A frame, mostly good.
fn frame(random: &mut SmallRng, bytes: &mut Vec<u8>) {
    let opcode = *[0, 1, 1, 1, 2, 2, 8, 9, 10].choose(random).unwrap();
    let is_final = opcode >= 8 || random.random_bool(0.7);
    let length = match random.random_range(0..10) {
        0 => random.random_range(120..132),
        1 if opcode < 8 => random.random_range(0..MESSAGE_BYTES_MAX + 50),
        _ => random.random_range(0..40),
    };
    let length = if opcode >= 8 { length.min(125) } else { length };
    bytes.push(u8::from(is_final) << 7 | opcode);
    match length {
        0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        _ => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    let mask: [u8; 4] = random.random();
    bytes.extend_from_slice(&mask);
    let text = payload(random, opcode, length);
    bytes.extend(text.iter().enumerate().map(|(place, byte)| byte ^ mask[place % 4]));
}

fn payload(random: &mut SmallRng, opcode: u8, length: usize) -> Vec<u8> {
    if opcode == 8 && length >= 2 {
        let mut payload = vec![b'x'; length];
        payload[..2].copy_from_slice(&random.random_range(990_u16..1_020).to_be_bytes());
        return payload;
    }
    let sample = r#"{"id":1,"send":{"conversation_id":"ü😀","text":"x","seen_seq":"12"}}"#;
    let mut payload: Vec<u8> = sample.bytes().cycle().take(length).collect();
    if random.random_bool(0.1) {
        random.fill(&mut payload[..]);
    }
    payload
}

/// Some frames, and then something wrong with them, sometimes.
fn input(random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.random_range(1..8) {
        frame(random, &mut bytes);
    }
    for _ in 0..random.random_range(0..4) {
        let place = random.random_range(0..bytes.len());
        match random.random_range(0..6) {
            0 => bytes[place] = random.random(),
            1 => bytes[place] ^= 1 << random.random_range(0..8),
            2 => drop(bytes.remove(place)),
            3 => bytes.insert(place, random.random()),
            _ => {}
        }
        if bytes.is_empty() {
            bytes.push(random.random());
        }
    }
    bytes
}

/// Ours, fed in pieces.
fn ours(random: &mut SmallRng, bytes: &[u8]) -> (Vec<Out>, bool) {
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
    let mut out = Vec::new();
    let mut rest = bytes;
    let mut closed = false;
    while !closed {
        let size = random.random_range(0..=rest.len().min(300));
        let (piece, after) = rest.split_at(size);
        rest = after;
        let mut piece = piece.to_vec();
        let pause = random.random_bool(0.2);
        let fed = decoder.feed(&mut piece, |incoming| {
            out.push(match incoming {
                Incoming::Text(text) => Out::Text(text.to_owned()),
                Incoming::Binary(bytes) => Out::Binary(bytes.to_vec()),
                Incoming::Ping(bytes) => Out::Ping(bytes.to_vec()),
                Incoming::Pong => Out::Pong,
                Incoming::Close(code) => {
                    closed = true;
                    Out::Close(code)
                }
            });
            if pause || closed { Flow::Pause } else { Flow::Continue }
        });
        // Held: what one message and its parts take, and what has not been read yet.
        assert!(decoder.held_bytes() <= 2 * MESSAGE_BYTES_MAX + bytes.len());
        if fed.is_err() {
            return (out, true);
        }
        if rest.is_empty() && !pause {
            break;
        }
    }
    while !closed {
        let before = out.len();
        let fed = decoder.feed(&mut [], |incoming| {
            out.push(match incoming {
                Incoming::Text(text) => Out::Text(text.to_owned()),
                Incoming::Binary(bytes) => Out::Binary(bytes.to_vec()),
                Incoming::Ping(bytes) => Out::Ping(bytes.to_vec()),
                Incoming::Pong => Out::Pong,
                Incoming::Close(code) => {
                    closed = true;
                    Out::Close(code)
                }
            });
            if closed { Flow::Pause } else { Flow::Continue }
        });
        if fed.is_err() {
            return (out, true);
        }
        if out.len() == before {
            break;
        }
    }
    (out, false)
}

/// Reads the bytes, swallows what is written.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(into)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Good,
    Refused,
    NotUtf8,
}

/// The other implementation.
fn theirs(bytes: &[u8]) -> (Vec<Out>, End) {
    let config =
        WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES_MAX)).max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut context = WebSocketContext::new(Role::Server, Some(config));
    let mut wire = Wire(bytes);
    let mut out = Vec::new();
    loop {
        match context.read(&mut wire) {
            Ok(Message::Text(text)) => out.push(Out::Text(text.as_str().to_owned())),
            Ok(Message::Binary(bytes)) => out.push(Out::Binary(bytes.to_vec())),
            Ok(Message::Ping(bytes)) => out.push(Out::Ping(bytes.to_vec())),
            Ok(Message::Pong(_)) => out.push(Out::Pong),
            Ok(Message::Close(frame)) => {
                out.push(Out::Close(frame.map(|frame| frame.code.into())));
                return (out, End::Good);
            }
            Ok(Message::Frame(_)) => {}
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return (out, End::Good),
            Err(tungstenite::Error::Utf8(_)) => return (out, End::NotUtf8),
            Err(_) => return (out, End::Refused),
        }
    }
}

#[test]
fn two_decoders_agree_on_what_is_a_message_and_what_is_the_end() {
    let seed = setting("TIDINGS_FUZZ_SEED").unwrap_or_else(|| rand::rng().random());
    let cases = setting("TIDINGS_FUZZ_CASES").unwrap_or(100_000);
    println!("seed {seed}, {cases} cases");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut refused = 0;
    for case in 0..cases {
        let bytes = input(&mut random);
        let (our_out, our_error) = ours(&mut random, &bytes);
        let (mut their_out, mut their_end) = theirs(&bytes);
        if our_error && their_end == End::Good && !matches!(their_out.last(), Some(Out::Close(_))) {
            // We refuse a frame by its head, they wait for its end: let them have one.
            let ended = [&bytes[..], &[0; 2 * MESSAGE_BYTES_MAX]].concat();
            (their_out, their_end) = theirs(&ended);
        }
        if their_end == End::NotUtf8 {
            // They look at each part of a message, we at the whole: control frames may come before its end.
            let (same, rest) = our_out.split_at(their_out.len());
            assert_eq!(same, their_out, "seed {seed}, case {case}: {bytes:02x?}");
            let only_control = rest.iter().all(|out| !matches!(out, Out::Text(_) | Out::Binary(_)));
            assert!(only_control, "seed {seed}, case {case}: {bytes:02x?}");
            continue;
        }
        let their_error = their_end == End::Refused;
        // Where a code may not be sent, they go on with another code and we refuse: both end the connection.
        let forbidden = our_error && !their_error && matches!(their_out.last(), Some(Out::Close(_)));
        if forbidden {
            their_out.pop();
        }
        assert_eq!(
            (&our_out, our_error),
            (&their_out, their_error || forbidden),
            "seed {seed}, case {case}: {bytes:02x?}"
        );
        refused += u64::from(our_error);
        for message in &our_out {
            match message {
                Out::Text(text) => drop(Format::Json.decode(text.as_bytes())),
                Out::Binary(bytes) => drop(Format::Protobuf.decode(bytes)),
                _ => {}
            }
        }
    }
    assert!(refused > cases / 100 && refused < cases, "the cases are all alike: {refused} refused");
}

/// Frames of the client contract, damaged: never a panic, always a frame or a refusal.
#[test]
fn no_frame_of_json_or_protobuf_breaks_the_decoders() {
    let seed = setting("TIDINGS_FUZZ_SEED").unwrap_or_else(|| rand::rng().random());
    let cases = setting("TIDINGS_FUZZ_CASES").unwrap_or(100_000);
    println!("seed {seed}, {cases} cases");
    let mut random = SmallRng::seed_from_u64(seed);
    let samples: Vec<&[u8]> = vec![
        br#"{"id":1,"hello":{"token":"t","device_id":"d","resume":{"epoch":"e","offset":"12"}}}"#,
        br#"{"id":"2","send":{"conversation_id":"c","client_message_id":"m","text":"\ud83d\ude00","attachments":[{"media_id":"x","size":"9"}]}}"#,
        br#"{"id":3,"send":{"encrypted":{"algorithm":"a","ciphertext":"AAEC","recipients":[{"device_id":"d","header":"_-8="}]}}}"#,
        br#"{"id":4,"receipt":{"conversation_id":"c","delivered_seq":1e3,"seen_seq":18446744073709551615}}"#,
        br#"{"id":5,"create_conversation":{"kind":"group","title":null,"member_ids":["a","b"]}}"#,
        br#"{"id":6,"watch_presence":{"user_ids":[]},"unknown":{"deep":[[[{}]]]}}"#,
        b"\x08\x01\x52\x09\x0a\x01t\x12\x01d\x1a\x01\x0a",
        b"\x08\x02\x5a\x10\x0a\x01c\x12\x01m\x1a\x01x\x22\x03\x0a\x01m",
        b"\x08\xff\xff\xff\xff\x0f\x8a\x01\x06\x08\x02\x1a\x02ab",
    ];
    for _ in 0..cases {
        let mut bytes = samples.choose(&mut random).unwrap().to_vec();
        for _ in 0..random.random_range(1..6) {
            let place = random.random_range(0..bytes.len());
            match random.random_range(0..5) {
                0 => bytes[place] = random.random(),
                1 => bytes[place] ^= 1 << random.random_range(0..8),
                2 if bytes.len() > 1 => drop(bytes.remove(place)),
                3 => bytes.truncate(place.max(1)),
                _ => {
                    let other = samples.choose(&mut random).unwrap();
                    let from = random.random_range(0..other.len());
                    bytes.splice(place..place, other[from..].iter().copied());
                }
            }
        }
        for format in [Format::Json, Format::Protobuf] {
            if let Ok(frame) = format.decode(&bytes) {
                // What was understood can be said again and means the same.
                let again = prost::Message::encode_to_vec(&frame);
                assert_eq!(Format::Protobuf.decode(&again), Ok(frame), "seed {seed}");
            }
        }
    }
}

#[test]
fn what_the_server_writes_is_what_a_client_reads() {
    let mut random = SmallRng::seed_from_u64(7);
    for length in [0, 1, 124, 125, 126, 127, 65_535, 65_536, 70_000] {
        let mut payload = vec![b'a'; length];
        random.fill(&mut payload[..]);
        let mut written = Vec::new();
        codec::put_ping(&mut written);
        let first = written.len();
        codec::put_data(&mut written, false, &[&payload[..length / 2], &payload[length / 2..]]);
        let second = written.len();
        codec::put_pong(&mut written, b"pong");
        let third = written.len();
        codec::put_close(&mut written, Some(4001), "slow_consumer");
        for (position, boundary) in
            [(0, 0), (1, first), (first, first), (first + 1, second), (second - 1, second), (second + 1, third)]
        {
            assert_eq!(codec::frame_boundary(&written, position), boundary, "{length}");
        }
        let mut client = WebSocketContext::new(Role::Client, None);
        let mut wire = Wire(&written);
        assert_eq!(client.read(&mut wire).unwrap(), Message::Ping(Vec::new().into()));
        assert_eq!(client.read(&mut wire).unwrap(), Message::binary(payload));
        assert_eq!(client.read(&mut wire).unwrap(), Message::Pong(b"pong".to_vec().into()));
        let Message::Close(Some(frame)) = client.read(&mut wire).unwrap() else { panic!("no close") };
        assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "slow_consumer"));
    }
}
