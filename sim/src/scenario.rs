//! Scenario files: what to simulate, as data. The grammar is described in `scenarios/README.md`.

use std::borrow::Cow;
use std::fmt;

use gantry_core::rng::Rng;
use gantry_core::time::{Duration, Instant};
use serde::Deserialize;

use crate::check::{ClientKind, Flush, Replication};
use crate::digest::Digest;
use crate::fault::{FaultKind, Moment};
use crate::fleet::FleetShape;
use crate::plan::Gone;

/// The scenario that runs when none is named.
pub const SKELETON: &str = include_str!("../../scenarios/skeleton.toml");

/// Name servers at most.
pub const NAME_SERVERS_MAX: u8 = 3;

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line.
    pub title: String,
    duration_s: u64,
    /// Messages to be sent.
    pub messages: u32,
    /// Over so many topics.
    pub topics: u8,
    sends_until_s: u64,
    audit_at_s: u64,
    /// Whether the master has a follower.
    pub follower: bool,
    /// Whether there is a second one.
    #[serde(default)]
    pub second_follower: bool,
    /// Whether the follower takes the master's place, after the faults.
    #[serde(default)]
    pub takeover: bool,
    /// Whether the follower dies as it does so.
    #[serde(default)]
    pub promoted_dies: bool,
    /// How the master may go then; each of them when left out.
    #[serde(default = "every_way")]
    pub gone: Vec<Gone>,
    /// Whether old messages go: a seed draws when.
    #[serde(default)]
    pub retention: bool,
    /// Flush mode of the brokers; drawn when left out.
    #[serde(default)]
    pub flush: Option<Flush>,
    /// Replication mode of the master; drawn when left out.
    #[serde(default)]
    pub replication: Option<Replication>,
    /// Name servers at most; a seed draws how many there are.
    #[serde(default = "one")]
    pub name_servers: u8,
    /// Whether there are as many of everything as this file says, rather than a number up to it that a seed draws.
    #[serde(default)]
    pub exact: bool,
    /// Applications and broker groups in place of the usual hosts.
    #[serde(default)]
    pub fleet: Option<FleetShape>,
    /// Clients beside the usual ones.
    #[serde(default)]
    pub clients: Vec<ClientKind>,
    faults: Faults,
    /// Of a swarm: its members, of which each seed draws one, and what it has beside.
    #[serde(skip)]
    swarm: Vec<Scenario>,
}

/// A file that names other scenarios in place of a topology and workloads.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SwarmFile {
    title: String,
    one_of: Vec<String>,
    more_kinds: Vec<FaultKind>,
    name_servers: u8,
}

/// Of so many worlds of a swarm one has the name servers of its member alone.
const OWN_NAMES_IN: u64 = 2;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Faults {
    max: u64,
    from_s: u64,
    until_s: u64,
    #[serde(default = "usual_kinds")]
    kinds: Vec<FaultKind>,
    #[serde(default)]
    moments: Vec<Moment>,
    #[serde(default)]
    to: Vec<Victims>,
}

/// Whom faults may happen to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Victims {
    /// The name servers, and their cables to everybody.
    NameServers,
    /// Master and follower.
    Brokers,
    /// Everybody else.
    Clients,
}

fn every_way() -> Vec<Gone> {
    vec![Gone::Dead, Gone::DiskLost, Gone::CutOff]
}

fn one() -> u8 {
    1
}

fn usual_kinds() -> Vec<FaultKind> {
    FaultKind::USUAL.to_vec()
}

/// Why a scenario was not read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScenarioError(String);

impl ScenarioError {
    pub(crate) fn new(what: String) -> ScenarioError {
        ScenarioError(what)
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScenarioError {}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// What is wrong, with its line and column.
    pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| ScenarioError(error.to_string()))?;
        let times = [
            ("faults.from_s", scenario.faults.from_s),
            ("faults.until_s", scenario.faults.until_s),
            ("audit_at_s", scenario.audit_at_s),
            ("duration_s", scenario.duration_s),
        ];
        for pair in times.windows(2) {
            let [(earlier, a), (later, b)] = pair else { continue };
            if a >= b {
                return Err(ScenarioError(format!("{earlier} ({a}) must come before {later} ({b})")));
            }
        }
        if scenario.gone.is_empty() || scenario.takeover && !scenario.follower {
            return Err(ScenarioError("a takeover needs a follower and a way for the master to go".into()));
        }
        if scenario.promoted_dies && (!scenario.takeover || scenario.second_follower) {
            return Err(ScenarioError("promoted_dies needs a takeover with one follower".into()));
        }
        if !(1..=NAME_SERVERS_MAX).contains(&scenario.name_servers) {
            return Err(ScenarioError(format!("name_servers must lie in 1..={NAME_SERVERS_MAX}")));
        }
        if let Some(fleet) = &scenario.fleet
            && (fleet.clients_min < 2
                || fleet.clients_max < fleet.clients_min
                || fleet.broker_groups == 0
                || fleet.consumer_groups < 2)
        {
            let what = "fleet: 2 <= clients_min <= clients_max, broker_groups >= 1, consumer_groups >= 2";
            return Err(ScenarioError(what.to_owned()));
        }
        if scenario.sends_until_s >= scenario.audit_at_s {
            let (a, b) = (scenario.sends_until_s, scenario.audit_at_s);
            return Err(ScenarioError(format!("sends_until_s ({a}) must come before audit_at_s ({b})")));
        }
        Ok(scenario)
    }

    /// Reads a scenario, or a swarm of others, which `find` reads by their names.
    ///
    /// # Errors
    /// What is wrong, with its line and column.
    pub fn parse_any(
        text: &str,
        find: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Scenario, ScenarioError> {
        let is_swarm = toml::from_str::<toml::Table>(text).is_ok_and(|table| table.contains_key("one_of"));
        if !is_swarm {
            return Scenario::parse(text);
        }
        let file: SwarmFile = toml::from_str(text).map_err(|error| ScenarioError(error.to_string()))?;
        let mut swarm = Vec::new();
        for name in &file.one_of {
            let member = find(name).map_err(ScenarioError)?;
            let mut member =
                Scenario::parse(&member).map_err(|error| ScenarioError(format!("{name}: {error}")))?;
            let more = file.more_kinds.iter().filter(|kind| !member.faults.kinds.contains(kind));
            let more: Vec<FaultKind> = more.copied().collect();
            member.faults.kinds.extend(more);
            member.title = format!("{name}, in a swarm: {}", member.title);
            swarm.push(member);
        }
        if !(1..=NAME_SERVERS_MAX).contains(&file.name_servers) {
            return Err(ScenarioError(format!("name_servers must lie in 1..={NAME_SERVERS_MAX}")));
        }
        let Some(first) = swarm.first().cloned() else {
            return Err(ScenarioError("one_of must name a scenario".into()));
        };
        let name_servers = first.name_servers.max(file.name_servers);
        Ok(Scenario { title: file.title, name_servers, swarm, ..first })
    }

    /// What a seed has of it: all, or of a swarm the member that it draws.
    pub fn of_seed(&self, seed: u64) -> Cow<'_, Scenario> {
        let mut rng = Rng::from_seed(seed).fork("swarm");
        let at = rng.below(self.swarm.len().max(1) as u64) as usize;
        let Some(member) = self.swarm.get(at) else { return Cow::Borrowed(self) };
        let mut member = member.clone();
        // Name servers know nothing of each other, and what such clients tell one they ask of another.
        let is_at_one = member.clients.iter().any(|client| client.tells_name_servers());
        if !member.exact && !is_at_one && !rng.one_in(OWN_NAMES_IN) {
            member.name_servers = member.name_servers.max(self.name_servers);
        }
        Cow::Owned(member)
    }

    /// A hash of everything in it: two scenarios of one name are not the same one.
    pub fn hash(&self) -> u64 {
        let mut digest = Digest::default();
        digest.bytes(format!("{self:?}").as_bytes());
        digest.value()
    }

    /// The last thing that happens.
    pub fn ends_at(&self) -> Instant {
        at(self.duration_s)
    }

    /// The last message is sent by then.
    pub fn sends_until(&self) -> Duration {
        Duration::from_secs(self.sends_until_s)
    }

    /// When the auditor begins.
    pub fn audit_at(&self) -> Instant {
        at(self.audit_at_s)
    }

    /// Faults at most.
    pub fn faults_max(&self) -> u64 {
        self.faults.max
    }

    /// None begins before.
    pub fn faults_from(&self) -> Instant {
        at(self.faults.from_s)
    }

    /// All is mended after.
    pub fn faults_until(&self) -> Instant {
        at(self.faults.until_s)
    }

    /// To whom; everybody when the list is empty. A seed draws who is spared, never the first of the list.
    pub fn victims(&self) -> &[Victims] {
        &self.faults.to
    }

    /// The moments at which brokers die, where they die at moments; the usual ones when the list is empty.
    pub fn moments(&self) -> &[Moment] {
        &self.faults.moments
    }

    /// Which.
    pub fn fault_kinds(&self) -> &[FaultKind] {
        &self.faults.kinds
    }
}

fn at(secs: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_error(text: &str, expect: &str) {
        let error = Scenario::parse(text).expect_err("must be refused").to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn the_skeleton_is_read() {
        let scenario = Scenario::parse(SKELETON).expect("shipped");
        assert_eq!(scenario.fault_kinds(), FaultKind::USUAL);
        assert_eq!(scenario.messages, 200);
    }

    #[test]
    fn a_swarm_draws_its_members_and_gives_them_more() {
        let text = "title = \"t\"\none_of = [\"a\", \"b\"]\nmore_kinds = [\"half-open\"]\nname_servers = 3";
        let find = |name: &str| match name {
            "a" => Ok(SKELETON.to_owned()),
            "b" => Ok(SKELETON.replace("messages = 200", "messages = 77")),
            _ => Err(format!("{name}: there is none")),
        };
        let swarm = Scenario::parse_any(text, find).expect("it is whole");
        let drawn: Vec<Scenario> = (0..100).map(|seed| swarm.of_seed(seed).into_owned()).collect();
        for count in [200, 77] {
            assert!(drawn.iter().any(|member| member.messages == count && member.name_servers == 3));
        }
        assert!(drawn.iter().all(|member| member.fault_kinds().contains(&FaultKind::HalfOpen)));
        let error = Scenario::parse_any(&text.replace("\"b\"", "\"c\""), find).expect_err("no c").to_string();
        assert!(error.contains("c: there is none"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        check_error(&SKELETON.replace("messages", "mesages"), "line 3, column 1");
        check_error(&SKELETON.replace("topics = 2", "topics = true"), "line 4, column 10");
        check_error(&format!("{SKELETON}\nkinds = [\"flood\"]"), "unknown variant `flood`");
        check_error(&format!("{SKELETON}\nmoments = [\"noon\"]"), "unknown variant `noon`");
        check_error(
            &SKELETON.replace("audit_at_s = 500", "audit_at_s = 300"),
            "faults.until_s (380) must come before",
        );
        let many = format!("name_servers = 4\n{SKELETON}");
        check_error(&many, "name_servers must lie in 1..=3");
    }
}
