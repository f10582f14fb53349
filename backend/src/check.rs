//! `xen-pvscsi check`: says whether this host is ready, or what a device is, who has it, and what is in its way. Changes nothing.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use pvscsi_sg::{Reactor, ReactorKind};
use pvscsi_xen::xenstore::Xenstore;
use serde_json::{Value, json};

use crate::in_use::{Host, harmless};

mod device;
mod host;
mod modprobe;
mod names;
#[cfg(test)]
mod tests;

/// Xenstored, if it is there, answers at once.
const XENSTORE: Duration = Duration::from_secs(3);

/// What stands at the front of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works; something could be better.
    Note,
    /// It is in the way.
    Problem,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// What it is about, in a word.
    pub topic: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// The same in a sentence.
    pub text: String,
    /// What helps.
    pub remedy: Option<String>,
    /// For programs.
    pub value: Value,
}

impl Fact {
    fn new(topic: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { topic, verdict, text: harmless(text), remedy: None, value: Value::Null }
    }

    fn ok(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(topic, Verdict::Ok, text)
    }

    fn note(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(topic, Verdict::Note, text)
    }

    fn problem(topic: &'static str, text: impl Into<String>) -> Self {
        Self::new(topic, Verdict::Problem, text)
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(harmless(remedy)), ..self }
    }

    fn value(self, value: impl Into<Value>) -> Self {
        Self { value: value.into(), ..self }
    }
}

/// All that was looked at, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Report(pub Vec<Fact>);

impl Report {
    /// Whether nothing is in the way.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.problems() == 0
    }

    fn problems(&self) -> usize {
        self.0.iter().filter(|fact| fact.verdict == Verdict::Problem).count()
    }

    /// A line for each fact, and one for its remedy.
    #[must_use]
    pub fn text(&self) -> String {
        let width = self.0.iter().map(|fact| fact.topic.len()).max().unwrap_or(0);
        let mut out = String::new();
        for fact in &self.0 {
            let _ = writeln!(out, "{:<width$}  {:<7}  {}", fact.topic, fact.verdict.word(), fact.text);
            if let Some(remedy) = &fact.remedy {
                let _ = writeln!(out, "{:<width$}  {:<7}  remedy: {remedy}", "", "");
            }
        }
        let end = match self.problems() {
            0 => "nothing is in the way".into(),
            1 => "1 problem is in the way".into(),
            many => format!("{many} problems are in the way"),
        };
        let _ = writeln!(out, "{end}");
        out
    }

    /// The same as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let facts = self.0.iter().map(|fact| {
            json!({
                "topic": fact.topic, "verdict": fact.verdict.word(), "text": fact.text, "remedy": fact.remedy,
                "value": fact.value,
            })
        });
        json!({ "fits": self.fits(), "facts": facts.collect::<Value>() })
    }
}

/// What is looked at.
#[derive(Debug)]
pub struct Machine {
    host: Host,
    /// Or why there is none.
    store: Result<Xenstore, String>,
    io_uring: io::Result<()>,
}

impl Machine {
    /// The one that this runs on.
    #[must_use]
    pub fn here() -> Self {
        let store = Xenstore::open().map(|mut store| {
            store.set_timeout(XENSTORE);
            store
        });
        Self {
            host: Host::default(),
            store: store.map_err(|error| error.to_string()),
            io_uring: Reactor::new(ReactorKind::IoUring).map(drop),
        }
    }

    /// Whether this host is ready to serve guests.
    #[must_use]
    pub fn host(&mut self) -> Report {
        Report(host::facts(self))
    }

    /// What a device is, and whether a guest can have it: `pdev[,vdev[,option]…]`, as `attach` takes it.
    #[must_use]
    pub fn device(&mut self, text: &str) -> Report {
        Report(device::facts(self, text))
    }
}
