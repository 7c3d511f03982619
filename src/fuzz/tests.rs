//! Every target with its corpus, and with inputs made from it by chance.

use std::path::Path;

/// Changed inputs for each target: a few seconds in all, without optimisation.
const CHANGED: usize = 2_000;
const LEN_MAX: usize = 4096;

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { stands_its_corpus(stringify!($name), super::$name); })*

        #[test]
        fn every_corpus_has_its_target() {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
            let mut found: Vec<String> = std::fs::read_dir(dir)
                .expect("corpora")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect();
            let mut known = vec![$(stringify!($name)),*];
            found.sort();
            known.sort_unstable();
            assert_eq!(found, known);
        }
    };
}

targets! { certificate envelope filters policy protobuf request restore }

fn stands_its_corpus(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    corpus.iter().for_each(|input| target(input));
    let mut chance = Chance(1);
    for _ in 0..CHANGED {
        target(&chance.change(&corpus));
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("an input")).collect()
}

/// A sequence of numbers without a pattern, the same at every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let number = usize::try_from(self.0 >> 33).expect("31 bits");
        number % bound.max(1)
    }

    /// An input of the corpus with some bytes changed, taken out, doubled, or of another input.
    fn change(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len());
            let end = at + self.below(input.len() - at + 1).min(32);
            match self.below(5) {
                0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
                1 if !input.is_empty() => input[at] = self.below(256).to_le_bytes()[0],
                2 => drop(input.drain(at..end)),
                3 => {
                    let part = input[at..end].to_vec();
                    input.splice(at..at, part);
                }
                _ => {
                    let other = &corpus[self.below(corpus.len())];
                    let from = self.below(other.len());
                    let to = from + self.below(other.len() - from + 1).min(64);
                    input.splice(at..at, other[from..to].iter().copied());
                }
            }
        }
        input.truncate(LEN_MAX);
        input
    }
}
