//! The layer check: which crate of the house may know which.
//!
//! The crates stand on floors. An arrow (a dependency) points to a lower floor; crates on one floor do
//! not know each other, except in their tests. The same walk checks what goes with the arrows: backend
//! features are forwarded, no library chooses a backend, `anyhow` stays out of libraries, burn is pinned.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, bail};

use crate::metadata::{Dependency, Kind, Metadata, Package};

/// The floors of the house, from the ground up.
const FLOORS: &[&[&str]] = &[
    &["firebrick-kernels"],
    &["firebrick-autodiff"],
    &["firebrick-nn", "firebrick-optim", "firebrick-augment", "firebrick-data", "firebrick-text"],
    &["firebrick-zoo", "firebrick-train"],
    &[FACADE],
    &["firebrick-cli", "firebrick-examples", "firebrick-benches"],
];

/// The floor of what a user starts; everything below is a library.
const APPLICATIONS: usize = FLOORS.len() - 1;

/// The one library that has a default backend, so that a newcomer needs no feature.
const FACADE: &str = "firebrick";

/// What the facade enables by default.
const FACADE_DEFAULT: &[&str] = &["ndarray"];

/// Stands beside the house: no arrow leads in or out.
const OUTSIDE: &str = "xtask";

/// The tensor framework; its companions are named `burn-*`.
const BURN: &str = "burn";

/// Every golden figure was checked against this version.
const BURN_VERSION: &str = "=0.22.1";

/// Features that choose or tune a backend: whoever uses burn has and forwards all of them.
const BACKEND_FEATURES: &[&str] =
    &["ndarray", "flex", "wgpu", "vulkan", "metal", "cuda", "autotune", "fusion"];

/// A broken rule.
#[derive(Debug, PartialEq)]
pub struct Violation {
    /// The crate whose manifest breaks it.
    krate: String,
    /// The arrow or feature in question.
    what: String,
    /// The rule, and the way out.
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}: {}", self.krate, self.what, self.rule)
    }
}

/// Checks the workspace.
pub fn check() -> Result<()> {
    let metadata = Metadata::read()?;
    let violations = violations(&metadata);
    for violation in &violations {
        eprintln!("  {violation}");
    }
    match violations.len() {
        0 => {
            let arrows: usize = metadata.packages.iter().map(|p| p.dependencies.len()).sum();
            eprintln!(
                "  {} crates, {arrows} dependencies: as the architecture says",
                metadata.packages.len()
            );
            Ok(())
        }
        count => bail!("the layer check found {count} broken rules"),
    }
}

fn violations(metadata: &Metadata) -> Vec<Violation> {
    let mut found = Vec::new();
    for package in &metadata.packages {
        let mut report = |what: String, rule: String| {
            found.push(Violation { krate: package.name.clone(), what, rule });
        };
        check_arrows(package, metadata, &mut report);
        check_burn_is_pinned(package, &mut report);
        check_anyhow(package, &mut report);
        check_forwarding(package, metadata, &mut report);
        check_no_default_backend(package, &mut report);
    }
    found
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}

fn is_library(package: &Package) -> bool {
    floor(&package.name).is_some_and(|floor| floor < APPLICATIONS)
}

fn is_burn(name: &str) -> bool {
    name == BURN || name.starts_with("burn-")
}

fn arrow(from: &Package, to: &Dependency) -> String {
    let kind = match to.kind {
        Kind::Normal => "dependency",
        Kind::Build => "build dependency",
        Kind::Dev => "dev-dependency",
    };
    format!("{kind} {} -> {}", from.name, to.name)
}

fn check_arrows(package: &Package, metadata: &Metadata, report: &mut impl FnMut(String, String)) {
    if package.name != OUTSIDE && floor(&package.name).is_none() {
        report(
            "the crate".to_owned(),
            "stands on no floor: give it one in FLOORS, xtask/src/layers.rs".to_owned(),
        );
        return;
    }
    for to in &package.dependencies {
        if metadata.package(&to.name).is_none() {
            continue;
        }
        if let Some(rule) = broken_arrow_rule(package, to) {
            report(arrow(package, to), rule);
        }
    }
}

fn broken_arrow_rule(from: &Package, to: &Dependency) -> Option<String> {
    if from.name == OUTSIDE || to.name == OUTSIDE {
        return Some(format!("{OUTSIDE} stands beside the house: no arrow leads in or out"));
    }
    // A crate without a floor is reported once, by itself.
    let (here, there) = (floor(&from.name)?, floor(&to.name)?);
    if there < here || (there == here && to.kind == Kind::Dev) {
        None
    } else if there == here {
        Some("crates on one floor do not know each other: move what both need a floor down".to_owned())
    } else {
        Some("arrows point down only: this one points up".to_owned())
    }
}

fn check_burn_is_pinned(package: &Package, report: &mut impl FnMut(String, String)) {
    for to in &package.dependencies {
        if is_burn(&to.name) && to.req != BURN_VERSION {
            report(
                format!("{} {}", arrow(package, to), to.req),
                format!("burn is pinned exactly: {BURN_VERSION}"),
            );
        }
    }
}

fn check_anyhow(package: &Package, report: &mut impl FnMut(String, String)) {
    if !is_library(package) {
        return;
    }
    for to in package.dependencies.iter().filter(|to| to.name == "anyhow") {
        report(
            arrow(package, to),
            "a library's errors are its own enum (thiserror); anyhow is for applications and xtask"
                .to_owned(),
        );
    }
}

/// Whoever uses burn has every backend feature, and each one reaches burn and all crates below that have it.
fn check_forwarding(package: &Package, metadata: &Metadata, report: &mut impl FnMut(String, String)) {
    if package.name == OUTSIDE {
        return;
    }
    for feature in BACKEND_FEATURES.iter().copied() {
        let below: BTreeSet<&str> = package
            .dependencies
            .iter()
            .filter(|to| to.kind != Kind::Dev)
            .filter(|to| {
                to.name == BURN
                    || metadata.package(&to.name).is_some_and(|below| below.features.contains_key(feature))
            })
            .map(Dependency::key)
            .collect();
        let enabled = package.features.get(feature);
        if !below.is_empty() && enabled.is_none() {
            report(
                format!("feature {feature}"),
                format!(
                    "is missing: a crate that uses burn forwards it, here to {}",
                    below.into_iter().collect::<Vec<_>>().join(", ")
                ),
            );
            continue;
        }
        for (to, enabled) in below.into_iter().filter_map(|to| enabled.map(|list| (to, list))) {
            let (firm, weak) = (format!("{to}/{feature}"), format!("{to}?/{feature}"));
            if !enabled.contains(&firm) && !enabled.contains(&weak) {
                report(
                    format!("feature {feature}"),
                    format!("does not reach {to}: add \"{firm}\" to its list"),
                );
            }
        }
    }
}

fn check_no_default_backend(package: &Package, report: &mut impl FnMut(String, String)) {
    if !is_library(package) {
        return;
    }
    let allowed = if package.name == FACADE { FACADE_DEFAULT } else { &[] };
    for feature in enabled_by_default(package) {
        let backend = BACKEND_FEATURES
            .iter()
            .copied()
            .find(|backend| feature == *backend || feature.ends_with(&format!("/{backend}")));
        if let Some(backend) = backend.filter(|backend| !allowed.contains(backend)) {
            report(
                format!("default feature {feature}"),
                format!("no library chooses a backend: take {backend} out of its default"),
            );
        }
    }
    // Tests may choose: a dev-dependency does not reach the library's users.
    for to in package.dependencies.iter().filter(|to| to.kind != Kind::Dev) {
        if is_burn(&to.name) && to.uses_default_features {
            report(
                arrow(package, to),
                "burn's default features may choose a backend: set default-features = false".to_owned(),
            );
        }
        for feature in &to.features {
            if BACKEND_FEATURES.contains(&feature.as_str()) {
                report(
                    format!("{} with feature {feature}", arrow(package, to)),
                    "no library chooses a backend: enable it by a feature of the same name".to_owned(),
                );
            }
        }
    }
}

/// What the feature `default` enables, through other features of the package too.
fn enabled_by_default(package: &Package) -> BTreeSet<&str> {
    let mut enabled = BTreeSet::new();
    let mut open = vec!["default"];
    while let Some(feature) = open.pop() {
        for next in package.features.get(feature).into_iter().flatten() {
            // What an allowed feature of the facade forwards is that feature's business.
            let forwarded = next.contains('/') && BACKEND_FEATURES.contains(&feature);
            if !forwarded && enabled.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    enabled
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A dependency as `cargo metadata` prints it.
    fn dependency(name: &str, req: &str, kind: Value) -> Value {
        json!({
            "name": name, "rename": null, "req": req, "kind": kind, "optional": false,
            "uses_default_features": false, "features": [],
        })
    }

    fn package(name: &str, dependencies: Vec<Value>) -> Value {
        json!({ "name": name, "dependencies": dependencies, "features": {}, "targets": [] })
    }

    /// `package`, with every backend feature forwarded to `below`.
    fn forwarding(mut package: Value, below: &[&str]) -> Value {
        for feature in BACKEND_FEATURES {
            package["features"][feature] =
                below.iter().map(|to| Value::from(format!("{to}/{feature}"))).collect();
        }
        package
    }

    fn uses(name: &str) -> Value {
        dependency(name, "*", Value::Null)
    }

    fn tests_use(name: &str) -> Value {
        dependency(name, "*", "dev".into())
    }

    fn burn() -> Value {
        dependency(BURN, BURN_VERSION, Value::Null)
    }

    fn nn() -> Value {
        forwarding(package("firebrick-nn", vec![burn()]), &["burn"])
    }

    fn facade() -> Value {
        let mut facade =
            forwarding(package("firebrick", vec![burn(), uses("firebrick-nn")]), &["burn", "firebrick-nn"]);
        facade["features"]["default"] = json!(["ndarray"]);
        facade
    }

    fn found(packages: Vec<Value>) -> Vec<String> {
        let metadata: Metadata =
            serde_json::from_value(json!({ "packages": packages, "target_directory": "target" })).unwrap();
        violations(&metadata).iter().map(Violation::to_string).collect()
    }

    /// Asserts that exactly one rule is broken, and that its message holds all `parts`.
    #[track_caller]
    fn assert_breaks_one_rule(packages: Vec<Value>, parts: &[&str]) {
        let found = found(packages);
        assert_eq!(found.len(), 1, "{found:#?}");
        for part in parts {
            assert!(found[0].contains(part), "{part:?} in {:?}", found[0]);
        }
    }

    #[test]
    fn accepts_a_house_whose_arrows_point_down() {
        let house = vec![
            package("firebrick-kernels", vec![]),
            package("firebrick-autodiff", vec![uses("firebrick-kernels")]),
            nn(),
            package("firebrick-data", vec![]),
            forwarding(
                package(
                    "firebrick-zoo",
                    vec![burn(), uses("firebrick-nn"), uses("firebrick-data"), uses("firebrick-kernels")],
                ),
                &["burn", "firebrick-nn"],
            ),
            facade(),
            forwarding(package("firebrick-cli", vec![uses("firebrick"), uses("anyhow")]), &["firebrick"]),
            package("xtask", vec![uses("anyhow")]),
        ];
        assert_eq!(found(house), Vec::<String>::new());
    }

    #[test]
    fn refuses_an_arrow_up() {
        assert_breaks_one_rule(
            vec![
                package("firebrick-data", vec![uses("firebrick-train")]),
                package("firebrick-train", vec![]),
            ],
            &["firebrick-data: dependency firebrick-data -> firebrick-train", "points up"],
        );
    }

    #[test]
    fn refuses_an_arrow_up_from_tests_and_build_scripts() {
        for kind in ["dev", "build"] {
            assert_breaks_one_rule(
                vec![
                    package("firebrick-augment", vec![dependency("firebrick-zoo", "*", kind.into())]),
                    package("firebrick-zoo", vec![]),
                ],
                &[kind, "firebrick-augment -> firebrick-zoo", "points up"],
            );
        }
    }

    #[test]
    fn siblings_know_each_other_in_tests_only() {
        let siblings =
            |arrow: Value| vec![package("firebrick-augment", vec![arrow]), package("firebrick-data", vec![])];
        assert_eq!(found(siblings(tests_use("firebrick-data"))), Vec::<String>::new());
        assert_breaks_one_rule(
            siblings(uses("firebrick-data")),
            &["firebrick-augment -> firebrick-data", "one floor"],
        );
        assert_breaks_one_rule(
            siblings(dependency("firebrick-data", "*", "build".into())),
            &["build dependency", "one floor"],
        );
    }

    #[test]
    fn zoo_and_train_do_not_know_each_other() {
        assert_breaks_one_rule(
            vec![package("firebrick-zoo", vec![]), package("firebrick-train", vec![uses("firebrick-zoo")])],
            &["firebrick-train -> firebrick-zoo", "one floor"],
        );
    }

    #[test]
    fn applications_do_not_know_each_other() {
        assert_breaks_one_rule(
            vec![
                package("firebrick-examples", vec![]),
                package("firebrick-benches", vec![uses("firebrick-examples")]),
            ],
            &["firebrick-benches -> firebrick-examples", "one floor"],
        );
    }

    #[test]
    fn nothing_knows_xtask_and_xtask_knows_nothing() {
        assert_breaks_one_rule(
            vec![package("firebrick-cli", vec![tests_use("xtask")]), package("xtask", vec![])],
            &["firebrick-cli -> xtask", "beside the house"],
        );
        assert_breaks_one_rule(
            vec![
                package("firebrick-kernels", vec![]),
                package("xtask", vec![tests_use("firebrick-kernels")]),
            ],
            &["xtask -> firebrick-kernels", "beside the house"],
        );
    }

    #[test]
    fn a_new_crate_must_be_given_a_floor() {
        assert_breaks_one_rule(
            vec![package("firebrick-audio", vec![])],
            &["firebrick-audio: the crate", "FLOORS"],
        );
    }

    #[test]
    fn refuses_a_burn_that_is_not_pinned() {
        for (name, req) in [("burn", "^0.22.1"), ("burn", "=0.22.0"), ("burn-ndarray", "*")] {
            let mut loose = nn();
            loose["dependencies"].as_array_mut().unwrap().push(dependency(name, req, "dev".into()));
            assert_breaks_one_rule(vec![loose], &[&format!("-> {name} {req}"), "pinned"]);
        }
    }

    #[test]
    fn refuses_anyhow_in_a_library() {
        for name in ["firebrick-data", "firebrick"] {
            assert_breaks_one_rule(
                vec![package(name, vec![uses("anyhow")])],
                &[&format!("{name} -> anyhow"), "thiserror"],
            );
        }
    }

    #[test]
    fn refuses_a_crate_that_forgets_a_backend_feature() {
        let mut forgetful = nn();
        forgetful["features"].as_object_mut().unwrap().remove("wgpu");
        assert_breaks_one_rule(vec![forgetful], &["firebrick-nn: feature wgpu", "missing", "burn"]);
    }

    #[test]
    fn refuses_a_feature_that_does_not_reach_every_crate_below() {
        let mut facade = facade();
        facade["features"]["flex"] = json!(["burn/flex"]);
        assert_breaks_one_rule(vec![nn(), facade], &["feature flex", "\"firebrick-nn/flex\""]);
    }

    #[test]
    fn follows_a_renamed_dependency() {
        let mut renamed = package("firebrick-nn", vec![burn()]);
        renamed["dependencies"][0]["rename"] = "tensors".into();
        assert_eq!(found(vec![forwarding(renamed, &["tensors"])]), Vec::<String>::new());
    }

    #[test]
    fn applications_forward_backends_too() {
        let packages = vec![nn(), facade(), package("firebrick-cli", vec![uses("firebrick")])];
        let found = found(packages);
        assert_eq!(found.len(), BACKEND_FEATURES.len(), "{found:#?}");
        assert!(found.iter().all(|violation| violation.contains("here to firebrick")));
    }

    #[test]
    fn refuses_a_library_that_chooses_a_backend() {
        let mut library = nn();
        library["features"]["default"] = json!(["cpu"]);
        library["features"]["cpu"] = json!(["burn/flex"]);
        assert_breaks_one_rule(vec![library], &["default feature burn/flex", "take flex"]);

        let mut library = nn();
        library["dependencies"][0]["features"] = json!(["std", "ndarray"]);
        assert_breaks_one_rule(vec![library], &["-> burn with feature ndarray"]);

        let mut library = nn();
        library["dependencies"][0]["uses_default_features"] = json!(true);
        assert_breaks_one_rule(vec![library], &["-> burn", "default-features = false"]);
    }

    #[test]
    fn the_facade_may_default_to_ndarray_alone() {
        let mut greedy = facade();
        greedy["features"]["default"] = json!(["ndarray", "wgpu"]);
        assert_breaks_one_rule(vec![nn(), greedy], &["firebrick: default feature wgpu", "no library"]);
    }

    #[test]
    fn reads_what_cargo_prints_for_this_workspace() {
        let metadata = Metadata::read().unwrap();
        let facade = metadata.package(FACADE).unwrap();
        assert!(facade.dependencies.iter().any(|to| to.name == "firebrick-nn"));
        let cli = metadata.package("firebrick-cli").unwrap();
        assert!(cli.dependencies.iter().any(|to| to.kind == Kind::Dev));
    }
}
