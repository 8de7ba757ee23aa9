//! Which model a question is for.

use super::*;

fn offer(name: &str, version: u8, engine: Engine, current: bool) -> Offer {
    Offer {
        name: name.into(),
        version: Digest([version; 32]),
        interface: Digest([version; 32]),
        engine,
        packed: false,
        current,
        batch_ms: 1,
    }
}

fn question(model: &str, engine: Option<Engine>, reveal: Option<Revealed>) -> ModelQuestion {
    ModelQuestion {
        model: model.into(),
        engine,
        packing: Packing::Auto,
        reveal,
        samples: Samples {
            data: PathBuf::new(),
            schema: None,
            stored_as: None,
        },
        clip: false,
        dry_run: false,
        new_key: false,
    }
}

#[test]
fn models_are_asked_by_name_or_digits_of_a_version() {
    let mut offers = vec![
        offer("study", 1, Engine::Ckks, true),
        offer("heart", 2, Engine::Ckks, false),
        offer("heart", 3, Engine::Ckks, true),
    ];
    let version = |model: &str| {
        let chosen = choose(&offers, &question(model, None, None));
        chosen.map(|offers| offers[0].version.0[0])
    };
    assert_eq!(version("heart").unwrap(), 3);
    assert_eq!(version("study").unwrap(), 1);
    assert_eq!(version("02020202").unwrap(), 2);
    assert_eq!(version(&"03".repeat(32)).unwrap(), 3);
    for unknown in ["lung", "0202", "020203030", ""] {
        let said = version(unknown).unwrap_err().to_string();
        assert!(said.contains("there are study, heart"), "{said}");
    }
    let mut other = offer("other", 2, Engine::Ckks, true);
    other.version.0[31] = 9;
    offers.push(other);
    assert!(choose(&offers, &question("02020202", None, None)).is_err());
    let none = choose(&[], &question("heart", None, None));
    assert!(none.unwrap_err().to_string().contains("no model yet"));
}

#[test]
fn of_two_engines_the_one_that_reveals_what_is_asked_is_taken() {
    let offers = [
        offer("heart", 1, Engine::Tfhe, true),
        offer("heart", 2, Engine::Ckks, true),
        offer("trees", 3, Engine::Tfhe, true),
    ];
    let version = |model: &str, engine, reveal| {
        let chosen = choose(&offers, &question(model, engine, reveal));
        chosen.map(|offers| offers[0].version.0[0])
    };
    assert_eq!(version("heart", None, None).unwrap(), 2);
    assert_eq!(version("heart", None, Some(Revealed::Scores)).unwrap(), 2);
    assert_eq!(version("heart", None, Some(Revealed::Label)).unwrap(), 1);
    assert_eq!(version("heart", Some(Engine::Tfhe), None).unwrap(), 1);
    assert_eq!(version("trees", None, None).unwrap(), 3);
    let said = version("trees", Some(Engine::Ckks), None)
        .unwrap_err()
        .to_string();
    assert!(said.contains("by tfhe"), "{said}");
}

#[test]
fn of_two_packings_both_are_looked_at_unless_one_is_asked_for() {
    let mut offers = [
        offer("digits", 2, Engine::Ckks, true),
        offer("digits", 1, Engine::Ckks, true),
        offer("digits", 3, Engine::Tfhe, true),
    ];
    offers[0].packed = true;
    let versions = |packing, model: &str| {
        let mut question = question(model, None, None);
        question.packing = packing;
        let chosen = choose(&offers, &question)?;
        Ok::<_, PartyError>(chosen.iter().map(|offer| offer.version.0[0]).collect::<Vec<u8>>())
    };
    assert_eq!(versions(Packing::Auto, "digits").unwrap(), [1, 2]);
    assert_eq!(versions(Packing::Slots, "digits").unwrap(), [1]);
    assert_eq!(versions(Packing::Packed, "digits").unwrap(), [2]);
    assert_eq!(versions(Packing::Auto, &"02".repeat(8)).unwrap(), [2]);
    let said = versions(Packing::Slots, &"02".repeat(8)).unwrap_err().to_string();
    assert!(said.contains("--packing"), "{said}");
}
