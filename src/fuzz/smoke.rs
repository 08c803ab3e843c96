//! All of them, for a moment: what is in the corpus, and mutations of it that are the same in every run.

use std::fs;
use std::path::{Path, PathBuf};

/// Mutations of each function's inputs.
const MUTATIONS: usize = 2_000;
/// The same where regular expressions are compiled, which takes its time without optimisation.
const SLOW_MUTATIONS: usize = 200;
/// Inputs are cut to this length, in bytes, when they are mutated.
const LEN_MAX: usize = 4_096;

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The inputs that are kept for a function, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = package().join("corpus").join(name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Numbers that look random and are not (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % below.max(1)
    }

    fn byte(&mut self) -> u8 {
        const TELLING: [u8; 12] = [0, 1, 4, 0x7f, 0x80, 0xff, b'\'', b'"', b'\\', b'\n', b'=', b'$'];
        match self.next(3) {
            0 => TELLING[self.next(TELLING.len())],
            _ => u8::try_from(self.next(256)).unwrap(),
        }
    }
}

/// One input with a few changes: bytes replaced, put in and taken out, and pieces of another input.
fn mutated(corpus: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut data = corpus[numbers.next(corpus.len())].clone();
    data.truncate(LEN_MAX);
    for _ in 0..=numbers.next(5) {
        let at = numbers.next(data.len() + 1);
        let end = (at + numbers.next(8)).min(data.len());
        match numbers.next(4) {
            0 if at < data.len() => data[at] = numbers.byte(),
            1 => data.insert(at, numbers.byte()),
            2 => drop(data.drain(at..end)),
            _ => {
                let other = &corpus[numbers.next(corpus.len())];
                let from = numbers.next(other.len() + 1);
                let to = (from + numbers.next(64)).min(other.len());
                data.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    data
}

fn smoke(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty());
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |seed: u64, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut numbers = Numbers(seed);
    let count = if ["hba", "ident"].contains(&name) {
        SLOW_MUTATIONS
    } else {
        MUTATIONS
    };
    let mutations = (0..count).map(|_| mutated(&corpus, &mut numbers));
    for data in corpus.iter().cloned().chain(mutations) {
        if let Err(panic) = std::panic::catch_unwind(|| target(&data)) {
            eprintln!("the input: \"{}\"", data.escape_ascii());
            std::panic::resume_unwind(panic);
        }
    }
}

macro_rules! smoke_tests {
    ($($name:ident),* $(,)?) => {
        /// Those that have a test here.
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { smoke(stringify!($name), super::$name); })*
    };
}

smoke_tests!(
    certificate,
    challenge,
    client_messages,
    config,
    conninfo,
    console,
    conversation,
    hba,
    ident,
    ldap,
    pipeline,
    scram_client,
    scram_server,
    server_messages,
    sql,
    startup,
    userlist,
);

#[test]
fn every_target_has_a_corpus_and_a_test() {
    let manifest = fs::read_to_string(package().join("Cargo.toml")).unwrap();
    let targets = fs::read_dir(package().join("fuzz_targets")).unwrap();
    assert_eq!(targets.count(), TESTED.len());
    for name in TESTED {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let target = package().join(format!("fuzz_targets/{name}.rs"));
        let source = fs::read_to_string(&target).unwrap();
        assert!(source.contains(&format!("howdah::fuzz::{name}(data)")), "{name}");
    }
}
