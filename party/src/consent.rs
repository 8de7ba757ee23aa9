//! Consent: what a hospital reads before it signs a study, and the signed study on its disk.

use crate::config::Config;
use crate::error::PartyError;
use crate::home::{self, Home};
use crate::identity::Identity;
use galen_core::study::{Changes, DataSchema, FrozenStudy, Release, Role, STUDY_SIGNATURE};
use galen_core::{PartyId, Signed, StudyDigest};
use std::fmt::Write;
use std::path::Path;

/// The study in words, for the person who decides.
pub fn summary(study: &FrozenStudy, me: &PartyId) -> String {
    let plan = study.study();
    let sums = &plan.sums;
    let custodians = plan.with_role(Role::Custodian).len();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let mut line = |content: String| {
        let _ = writeln!(text, "{content}");
    };
    line(format!("Study \"{}\": {}", plan.name, plan.title));
    if let Some(before) = study.predecessor() {
        line(format!(
            "Version {}: goes on from version {} ({}) after {} rounds, from state {}.",
            study.version(),
            before.version,
            before.study.short(),
            before.rounds,
            before.state.short()
        ));
    }
    line("Digest, to compare with every other party by telephone:".into());
    line(format!("  {}", study.digest().spoken()));
    line("Parties (name, roles, certificate fingerprint):".into());
    for (member, card) in plan.party.iter().zip(study.cards()) {
        let roles: Vec<&str> = member.roles.iter().map(|role| role_name(*role)).collect();
        let own = if &member.name == me { "  <- this party" } else { "" };
        let title = if member.title.is_empty() {
            String::new()
        } else {
            format!(" ({})", member.title)
        };
        line(format!("  {}{title}: {}{own}", member.name, roles.join(", ")));
        line(format!("    {}", card.certificate.spoken()));
    }
    line(format!(
        "  coordinator\n    {}",
        study.coordinator().certificate.spoken()
    ));
    line(format!(
        "Sums: any {} of {custodians} custodians can open a sum together, any {} of them learn nothing; {} must endorse what is \
         opened; no sum over fewer than {} hospitals is opened.",
        sums.threshold,
        sums.threshold.saturating_sub(1),
        sums.agreement,
        sums.min_contributors
    ));
    let agreement = plan.agreement();
    line(format!("  {agreement} (f = 2g - n - 1)."));
    if let Some(warning) = agreement.warning() {
        line(format!("  {warning}."));
    }
    line(
        "  This version takes the coordinator to be honest but curious. Agreement against a coordinator that lies is not complete \
         and is not claimed."
            .into(),
    );
    line(data(&plan.data));
    line(format!(
        "Work: one round of statistics, {} of training, one of evaluation. The data stay here; the others see sums only.",
        plan.training_rounds()
    ));
    line("Every contributor reads the opened sums: statistics, the model after each round, histograms of scores.".into());
    if !plan.training.private.is_empty() {
        line(format!(
            "Not shared, but kept by every hospital for itself: {}.",
            plan.training.private.join(", ")
        ));
    }
    line(match plan.serving.release {
        Release::Coordinator => "The trained model IS RELEASED IN CLEAR to the coordinator, which serves encrypted queries with it.".into(),
        Release::Contributors => "The trained model stays with the contributors; nothing is released to the coordinator.".into(),
    });
    text
}

/// What every contributor's data are.
fn data(schema: &DataSchema) -> String {
    let what = match (&schema.samples, schema.class_names()) {
        (Some(samples), Some([negative, positive])) => {
            let [min, max] = schema.value_range();
            format!(
                "images of {} (channels, height, width) with values from {min} to {max}; class 0 is {negative:?}, class 1 is {positive:?}",
                samples.input
            )
        }
        _ => format!(
            "a table of {} columns, which give {} model inputs; class 0 is {:?}, class 1 is {:?}",
            schema.column.len(),
            schema.inputs(),
            schema.target.negative,
            schema.target.positive
        ),
    };
    let (rows, percent) = (schema.max_rows, 100.0 * schema.held_out);
    format!(
        "Data: {what}. At most {rows} patients at a hospital, of whom {percent:.0} % are held out for evaluation."
    )
}

/// What changes with a successor, for the person who decides.
pub fn changes(old: &FrozenStudy, new: &FrozenStudy) -> String {
    let (before, after) = (old.study(), new.study());
    let changes = Changes::between(before, after);
    let mut text = String::from("Against the study that was signed here:\n");
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "  {what:<8} {value}");
    };
    let names = |names: &[PartyId]| names.iter().map(PartyId::as_str).collect::<Vec<_>>().join(", ");
    for (what, parties) in [
        ("leave", &changes.left),
        ("join", &changes.joined),
        ("roles", &changes.other_roles),
    ] {
        if !parties.is_empty() {
            line(what, names(parties));
        }
    }
    let numbers = |plan: &galen_core::study::Study| {
        format!(
            "{} members, n = {}, t = {}, g = {}, at least {} contributors",
            plan.party.len(),
            plan.agreement().custodians,
            plan.sums.threshold,
            plan.sums.agreement,
            plan.sums.min_contributors
        )
    };
    line("before", numbers(before));
    line("after", numbers(after));
    text.push_str(
        "Signing closes the old study here: its one-round keys and contributions are erased, and it is not talked to again.\n",
    );
    text
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Contributor => "contributor",
        Role::Custodian => "custodian",
        Role::Querier => "querier",
    }
}

/// Signs a study: puts the frozen file where the configuration says, and the consent beside it. `text` is the file's content, which
/// `study` was read from.
///
/// # Errors
/// If the study does not know this party under its keys, or another study was signed in this folder.
pub fn sign(
    home: &Home,
    config: &Config,
    identity: &Identity,
    study: &FrozenStudy,
    text: &[u8],
) -> Result<(), PartyError> {
    identity.check_member(study)?;
    if home.consent().exists() && config.study.exists() {
        let signed = signed_study(config)?;
        if signed.digest() != study.digest() {
            return Err(PartyError::Consent(format!(
                "this folder signed study \"{}\" ({}) before; a folder serves one study and its successors, use another for this one",
                signed.study().name,
                signed.digest().short()
            )));
        }
    }
    let consent = identity
        .signing
        .sign(STUDY_SIGNATURE, &study.digest(), &study.digest());
    let consent = consent.map_err(PartyError::internal)?;
    let bytes = postcard::to_stdvec(&consent).map_err(PartyError::internal)?;
    write(home, config, text, &bytes)
}

/// Puts the frozen file and the consent where they belong. The consent is written last.
pub(crate) fn write(home: &Home, config: &Config, text: &[u8], consent: &[u8]) -> Result<(), PartyError> {
    if let Some(parent) = config.study.parent() {
        std::fs::create_dir_all(parent).map_err(PartyError::file(parent))?;
    }
    home::write_durably(&config.study, text)?;
    home::write_durably(&home.consent(), consent)
}

/// The study that this party signed.
pub fn signed_study(config: &Config) -> Result<FrozenStudy, PartyError> {
    if !config.study.exists() {
        return Err(PartyError::Consent(format!(
            "{}: there is no study yet; sign one with `party study sign FILE`",
            config.study.display()
        )));
    }
    Ok(FrozenStudy::load(&config.study)?)
}

/// The stored consent, if it is this party's to this study.
pub fn load(home: &Home, study: &FrozenStudy, identity: &Identity) -> Result<Signed, PartyError> {
    let path = home.consent();
    let unsigned = |path: &Path| {
        PartyError::Consent(format!(
            "{}: is not this party's signature of the study in config.toml; sign it with `party study sign FILE`",
            path.display()
        ))
    };
    if !path.exists() {
        return Err(unsigned(&path));
    }
    open(&home::read(&path)?, study, identity).ok_or_else(|| unsigned(&path))
}

/// A consent from its stored bytes, if it is this party's to this study.
pub(crate) fn open(bytes: &[u8], study: &FrozenStudy, identity: &Identity) -> Option<Signed> {
    let signed: Signed = postcard::from_bytes(bytes).ok()?;
    let said = signed.open::<StudyDigest>(STUDY_SIGNATURE, &study.digest(), &identity.signing.public());
    said.is_ok_and(|digest| digest == study.digest())
        .then_some(signed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    struct Case {
        _temp: tempfile::TempDir,
        home: Home,
        config: Config,
        identity: Identity,
        study: FrozenStudy,
    }

    fn case() -> Case {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(temp.path()).unwrap();
        std::fs::write(home.config(), crate::config::SAMPLE).unwrap();
        let identity = Identity::create(&home, testing::name("a")).unwrap();
        let config = Config::load(&home).unwrap();
        let study = testing::frozen(&[identity.card()]);
        Case {
            _temp: temp,
            home,
            config,
            identity,
            study,
        }
    }

    #[test]
    fn a_signed_study_is_found_again() {
        let Case {
            home,
            config,
            identity,
            study,
            ..
        } = case();
        assert!(matches!(signed_study(&config), Err(PartyError::Consent(_))));
        let text = study.to_toml().unwrap();
        sign(&home, &config, &identity, &study, text.as_bytes()).unwrap();
        let again = signed_study(&config).unwrap();
        assert_eq!(again, study);
        load(&home, &again, &identity).unwrap();
        // Signing the same study again is no harm.
        sign(&home, &config, &identity, &study, text.as_bytes()).unwrap();
    }

    #[test]
    fn no_second_study_and_no_study_of_others() {
        let Case {
            home,
            config,
            identity,
            study,
            ..
        } = case();
        let strangers = testing::frozen(&[]);
        let error = sign(&home, &config, &identity, &strangers, b"")
            .unwrap_err()
            .to_string();
        assert!(error.contains("other keys"), "{error}");
        assert!(
            !home.consent().exists() && !config.study.exists(),
            "nothing is half done"
        );
        sign(
            &home,
            &config,
            &identity,
            &study,
            study.to_toml().unwrap().as_bytes(),
        )
        .unwrap();
        let mut plan = study.study().clone();
        plan.title = "Another study".into();
        let other = FrozenStudy::freeze(plan, study.coordinator().clone(), study.cards().to_vec()).unwrap();
        let error = sign(&home, &config, &identity, &other, b"")
            .unwrap_err()
            .to_string();
        assert!(error.contains("use another"), "{error}");
        // A study that was exchanged after signing is not served.
        std::fs::write(&config.study, other.to_toml().unwrap()).unwrap();
        let exchanged = signed_study(&config).unwrap();
        assert!(matches!(
            load(&home, &exchanged, &identity),
            Err(PartyError::Consent(_))
        ));
    }

    #[test]
    fn the_summary_tells_what_is_decided() {
        let study = testing::frozen(&[]);
        let text = summary(&study, &testing::name("a"));
        for part in [
            &study.digest().spoken(),
            "Hospital A",
            &study.cards()[2].certificate.spoken(),
            "any 2 of 3 custodians can open",
            "any 1 of them learn nothing",
            "agreement g = 2 of n = 3: safe against f = 0 cheating custodians, 1 may be absent",
            "WARNING: that is less than the t - 1 = 1",
            "not claimed",
            "RELEASED IN CLEAR",
            "this party",
            "Data: a table of 3 columns",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn of_a_study_on_images_the_summary_tells_shape_range_and_classes() {
        let text = data(&testing::images().data);
        assert_eq!(
            text,
            "Data: images of 1x4x4 (channels, height, width) with values from 0 to 1; class 0 is \"vertical\", class 1 is \"horizontal\". At \
             most 200 patients at a hospital, of whom 30 % are held out for evaluation."
        );
    }
}
