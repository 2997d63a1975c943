//! A mutation fuzzer: takes seeds, tokens and a judge, gives the judge one damaged input after another. It has no
//! coverage to steer by; it goes on from inputs that the judge found worth it. The surprise: there is no corpus on
//! disk, the seed of the random numbers is the corpus.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// How many inputs are kept to go on from.
const POOL: usize = 400;
/// Longer inputs are not kept: they cost time and find nothing that shorter ones do not.
const LONGEST: usize = 2048;

/// Damages inputs until `FUZZ_SECONDS` (default 3) have passed. `judge` panics on a fault, and tells whether the input
/// is worth going on from. The input of a fault is printed as a byte string.
pub fn run(seeds: &[&str], tokens: &[&str], judge: impl Fn(&[u8]) -> bool) {
    let mut random = Random(number_from_env("FUZZ_SEED", 1));
    let patience = Duration::from_secs(number_from_env("FUZZ_SECONDS", 3));
    let mut pool: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    let (begun, mut count) = (Instant::now(), 0_u64);
    while begun.elapsed() < patience {
        let input = damaged(&pool, tokens, &mut random);
        let kept = catch_unwind(AssertUnwindSafe(|| judge(&input))).unwrap_or_else(|fault| {
            eprintln!("the fault is in input {count}: b\"{}\"", input.escape_ascii());
            resume_unwind(fault)
        });
        count += 1;
        if kept && input.len() <= LONGEST {
            if pool.len() < POOL {
                pool.push(input);
            } else {
                let place = seeds.len() + random.below(POOL - seeds.len());
                pool[place] = input;
            }
        }
    }
    println!("{count} inputs, {} kept", pool.len());
    assert!(count > 0, "nothing was tried: FUZZ_SECONDS is 0");
}

fn number_from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

/// One of the pool, damaged one to four times.
fn damaged(pool: &[Vec<u8>], tokens: &[&str], random: &mut Random) -> Vec<u8> {
    let mut input = pool[random.below(pool.len())].clone();
    for _ in 0..=random.below(4) {
        let (from, to) = random.range(input.len());
        match random.below(8) {
            0 => drop(input.drain(from..to)),
            1 => input.truncate(from),
            2 => {
                let again = input[from..to].to_vec();
                let place = random.below(input.len() + 1);
                input.splice(place..place, again);
            }
            3 => {
                let other = &pool[random.below(pool.len())];
                let (start, end) = random.range(other.len());
                input.splice(from..to, other[start..end].iter().copied());
            }
            4 if from < to => input[from] ^= 1 << random.below(8),
            _ => drop(input.splice(from..from, tokens[random.below(tokens.len())].bytes())),
        }
    }
    input
}

/// Marsaglia's xorshift64: enough for a fuzzer, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// A range inside this length, mostly a short one.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let from = self.below(length + 1);
        let longest = if self.below(4) == 0 { length } else { 8 };
        (from, (from + self.below(longest + 1)).min(length))
    }
}
