//! What was measured, and how it is told.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

/// Between two looks at the figures.
const LOOK: Duration = Duration::from_secs(1);
/// Longer latencies count as this one.
const LATENCY_MAX_US: u64 = 3_600_000_000;
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;
/// Steps of the distribution until only half as many are slower.
const STEPS_TO_HALF: u32 = 1;
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// Counts of some time.
struct Counts {
    messages: u64,
    bytes: u64,
    failures: u64,
    latency_us: Histogram<u64>,
}

impl Counts {
    fn new() -> Result<Counts, String> {
        Ok(Counts { messages: 0, bytes: 0, failures: 0, latency_us: histogram()? })
    }

    fn add(&mut self, bytes: usize, latency: Option<Duration>) {
        self.messages += 1;
        self.bytes += bytes as u64;
        if let Some(latency) = latency {
            self.latency_us.saturating_record(micros(latency));
        }
    }

    /// Messages and megabytes a second.
    fn rate(&self, time: Duration) -> (f64, f64) {
        let seconds = time.as_secs_f64().max(1e-9);
        (self.messages as f64 / seconds, self.bytes as f64 / seconds / 1e6)
    }
}

fn histogram() -> Result<Histogram<u64>, String> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS).map_err(|error| error.to_string())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(super) struct Tally {
    pub(super) begin: Instant,
    /// When the last one ended.
    end: Cell<Instant>,
    all: RefCell<Counts>,
    /// Since the last look.
    recent: RefCell<Counts>,
    failed_us: RefCell<Histogram<u64>>,
    last_failure: RefCell<String>,
}

/// The figures on standard error, until they are ended.
pub(super) struct Live {
    bar: Option<ProgressBar>,
    looks: JoinHandle<()>,
}

impl Live {
    pub(super) fn end(self) {
        self.looks.abort();
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Tally {
    pub(super) fn new() -> Result<Rc<Tally>, String> {
        let now = Instant::now();
        Ok(Rc::new(Tally {
            begin: now,
            end: Cell::new(now),
            all: RefCell::new(Counts::new()?),
            recent: RefCell::new(Counts::new()?),
            failed_us: RefCell::new(histogram()?),
            last_failure: RefCell::default(),
        }))
    }

    pub(super) fn add(&self, bytes: usize, latency: Option<Duration>) {
        self.end.set(Instant::now());
        self.all.borrow_mut().add(bytes, latency);
        self.recent.borrow_mut().add(bytes, latency);
    }

    pub(super) fn fail(&self, words: String, latency: Duration) {
        self.all.borrow_mut().failures += 1;
        self.recent.borrow_mut().failures += 1;
        self.failed_us.borrow_mut().saturating_record(micros(latency));
        *self.last_failure.borrow_mut() = words;
    }

    pub(super) fn messages(&self) -> u64 {
        self.all.borrow().messages
    }

    pub(super) fn last_failure(&self) -> String {
        self.last_failure.borrow().clone()
    }

    /// Tells the figures of each last second: those since the begin would go on looking well while nothing moves.
    pub(super) fn show(self: &Rc<Tally>, length: Option<u64>) -> Live {
        let bar = std::io::stderr().is_terminal().then(|| bar(length));
        let (tally, shown) = (Rc::clone(self), bar.clone());
        let looks = tokio::task::spawn_local(async move {
            let mut last = tally.begin;
            loop {
                tokio::time::sleep(LOOK).await;
                let now = Instant::now();
                let figures = tally.recent_figures(now - last);
                last = now;
                match &shown {
                    Some(bar) => {
                        bar.set_position(tally.messages());
                        bar.set_message(figures);
                    }
                    None => {
                        let seconds = (now - tally.begin).as_secs_f64();
                        eprintln!("gantry: {seconds:.0} s, {} messages, {figures}", tally.messages());
                    }
                }
            }
        });
        Live { bar, looks }
    }

    /// What came since the last look, in words.
    fn recent_figures(&self, time: Duration) -> String {
        let mut recent = self.recent.borrow_mut();
        let (messages, megabytes) = recent.rate(time);
        let p99 = if recent.latency_us.is_empty() {
            "-".into()
        } else {
            format!("{:.2} ms", recent.latency_us.value_at_quantile(0.99) as f64 / 1e3)
        };
        let figures =
            format!("{messages:.0} msg/s, {megabytes:.1} MB/s, p99 {p99}, {} failed", recent.failures);
        recent.latency_us.reset();
        (recent.messages, recent.bytes, recent.failures) = (0, 0, 0);
        figures
    }

    /// Writes the result; `corrects` says that sends waited for each other.
    pub(super) fn tell(&self, as_json: bool, corrects: bool) {
        let all = self.all.borrow();
        let measured = &all.latency_us;
        // In a closed loop the next one of a place follows at once: one at the mean.
        let interval = (measured.mean() as u64).max(1);
        let corrected = if corrects { measured.clone_correct(interval) } else { measured.clone() };
        let time = self.end.get().duration_since(self.begin);
        if as_json {
            println!("{}", self.json(&all, &corrected, time));
            return;
        }
        let (messages, megabytes) = all.rate(time);
        println!("messages      {:>12}", all.messages);
        println!("failures      {:>12}", all.failures);
        println!("seconds       {:>12.3}", time.as_secs_f64());
        println!("messages/s    {messages:>12.0}");
        println!("MB/s          {megabytes:>12.2}");
        let ms = |us: u64| us as f64 / 1e3;
        let failed = self.failed_us.borrow();
        if !measured.is_empty() {
            println!("latency, ms   {:>12} {:>12}", "measured", if corrects { "corrected" } else { "" });
            for (name, quantile) in QUANTILES {
                let of = |histogram: &Histogram<u64>| ms(histogram.value_at_quantile(quantile));
                if corrects {
                    println!("  {name:<12}{:>12.3} {:>12.3}", of(measured), of(&corrected));
                } else {
                    println!("  {name:<12}{:>12.3}", of(measured));
                }
            }
        }
        if !failed.is_empty() {
            println!("failed, ms");
            for (name, quantile) in QUANTILES {
                println!("  {name:<12}{:>12.3}", ms(failed.value_at_quantile(quantile)));
            }
        }
        if !measured.is_empty() {
            let what = if corrects { "corrected" } else { "measured" };
            println!("percentile    {:>12} {:>12}", format!("{what}, ms"), "up to here");
            for (percentile, us, count) in distribution(&corrected) {
                println!("  {percentile:<12.6}{:>12.3} {count:>12}", ms(us));
            }
        }
        if all.failures > 0 {
            eprintln!("gantry: the last failure: {}", self.last_failure.borrow());
        }
    }

    fn json(&self, all: &Counts, corrected: &Histogram<u64>, time: Duration) -> serde_json::Value {
        let latency = |histogram: &Histogram<u64>| {
            let values = QUANTILES
                .iter()
                .map(|(name, quantile)| ((*name).into(), histogram.value_at_quantile(*quantile).into()));
            serde_json::Value::Object(values.collect())
        };
        let rows: Vec<_> = distribution(corrected)
            .into_iter()
            .map(|(percentile, micros, count)| {
                serde_json::json!({"percentile": percentile, "micros": micros, "count": count})
            })
            .collect();
        let (messages, megabytes) = all.rate(time);
        let mut object = serde_json::json!({
            "messages": all.messages,
            "failures": all.failures,
            "seconds": time.as_secs_f64(),
            "messagesPerSecond": messages,
            "megabytesPerSecond": megabytes,
            "latencyMicros": latency(&all.latency_us),
            "correctedLatencyMicros": latency(corrected),
            "correctedLatencyDistribution": rows,
            "failedLatencyMicros": latency(&self.failed_us.borrow()),
        });
        if all.failures > 0 {
            object["lastFailure"] = self.last_failure().into();
        }
        object
    }
}

/// Percentile, latency in µs, and how many are not slower; each step has half of what is left.
fn distribution(histogram: &Histogram<u64>) -> Vec<(f64, u64, u64)> {
    let mut count = 0;
    histogram
        .iter_quantiles(STEPS_TO_HALF)
        .map(|step| {
            count += step.count_since_last_iteration();
            (step.quantile_iterated_to() * 100.0, step.value_iterated_to(), count)
        })
        .collect()
}

fn bar(length: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    let template = if length.is_some() { "{bar:30} {pos}/{len} {msg}" } else { "{spinner} {pos} {msg}" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

    use super::*;

    #[test]
    fn figures_are_those_since_the_last_look() {
        let tally = Tally::new().unwrap();
        for ms in 1..=1000 {
            tally.add(1000, Some(Duration::from_millis(ms)));
        }
        tally.fail("no".into(), Duration::from_secs(3));
        let second = Duration::from_secs(1);
        assert_eq!(tally.recent_figures(second), "1000 msg/s, 1.0 MB/s, p99 990.21 ms, 1 failed");
        assert_eq!(tally.recent_figures(second), "0 msg/s, 0.0 MB/s, p99 -, 0 failed");
        assert_eq!((tally.messages(), tally.all.borrow().failures), (1000, 1));
    }

    #[test]
    fn a_distribution_counts_all_in_the_end() {
        let mut histogram = histogram().unwrap();
        (1..=1000).for_each(|us| histogram.saturating_record(us));
        let rows = distribution(&histogram);
        assert_eq!(rows[1], (50.0, 500, 500), "{rows:?}");
        assert_eq!(rows.last().map(|row| (row.0, row.2)), Some((100.0, 1000)), "{rows:?}");
    }
}
