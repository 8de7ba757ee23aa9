use super::*;
use galen_models::{Model, ModelSpec, Range};

fn package(name: &str, seed: u64) -> Package {
    let spec = ModelSpec::residual_mlp(3, &[2], 0.1, 2).unwrap();
    let mut file = ModelFile::from(Model::initial(spec, seed).unwrap());
    file.annotations.inputs = vec![Range::new(-1.0, 1.0)];
    let program = Program::compile_file(&file, 8).unwrap();
    Package::new(name, 8, &program, 5, file.to_safetensors().unwrap()).unwrap()
}

fn packed(name: &str, seed: u64) -> Package {
    let Content::Ckks { file, .. } = package(name, seed).content else {
        panic!("not under CKKS");
    };
    let model = ModelFile::from_safetensors(&file).unwrap();
    let program = Program::compile_packed(&model, 8, u64::MAX).unwrap();
    Package::new(name, 8, &program, 2, file).unwrap()
}

fn open(dir: &Path) -> (Store, Registry) {
    let store = Store::open(&dir.join("store")).unwrap();
    let registry = Registry::open(&store, &PartyId::new("coordinator").unwrap(), 2).unwrap();
    (store, registry)
}

fn checked(package: Package) -> Checked {
    let dir = tempfile::tempdir().unwrap();
    package.put(dir.path()).unwrap();
    let version = package.version();
    check_package(&waiting(dir.path(), &version, ADD), &version).unwrap()
}

fn take_in(registry: &mut Registry, package: Package) -> Vec<Digest> {
    registry.take_in(checked(package), &|_| false, 7).unwrap()
}

#[test]
fn both_packings_of_a_model_are_current_until_another_takes_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, mut registry) = open(dir.path());
    let all = [package("heart", 1), packed("heart", 1), package("heart", 2)];
    let [slots, few, later] = [&all[0], &all[1], &all[2]].map(Package::version);
    let [first, second, third] = all;
    take_in(&mut registry, first);
    take_in(&mut registry, second);
    assert!(registry.is_current(&slots) && registry.is_current(&few));
    assert!(registry.models()[&few].is_packed() && !registry.models()[&slots].is_packed());
    // Another model without a packing: the packed one of the former would give its answers.
    take_in(&mut registry, third);
    assert!(registry.is_current(&later) && !registry.is_current(&slots));
    assert!(!registry.is_current(&few));
    take_in(&mut registry, packed("heart", 2));
    assert!(registry.is_current(&packed("heart", 2).version()));
}

#[test]
fn the_last_versions_are_kept_with_their_files_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = [1, 2, 3].map(|seed| package("heart", seed));
    let versions = [&first, &second, &third].map(Package::version);
    {
        let (store, mut registry) = open(dir.path());
        assert_eq!(take_in(&mut registry, first), []);
        assert!(registry.against(&checked(package("other", 1))).is_some());
        assert_eq!(take_in(&mut registry, package("other", 9)), []);
        assert_eq!(take_in(&mut registry, second), []);
        assert!(!registry.is_current(&versions[0]) && registry.is_current(&versions[1]));
        // Queries wait for the first.
        let needed = |version: &Digest| *version == versions[0];
        assert_eq!(registry.take_in(checked(third), &needed, 8).unwrap(), []);
        assert_eq!(registry.trim(&|_| false).unwrap(), [versions[0]]);
        assert_eq!(store.blobs().list().unwrap().len(), 3 + 3);
    }
    let (store, mut registry) = open(dir.path());
    assert_eq!(registry.models().len(), 3);
    assert!(registry.is_current(&versions[2]));
    let record = registry.models()[&versions[2]].clone();
    let Compiled::Ckks {
        file,
        precision_bits,
        choice,
        ..
    } = record.compiled
    else {
        panic!()
    };
    let bytes = store.blobs().read(&file).unwrap();
    let file = ModelFile::from_safetensors(&bytes).unwrap();
    let again = Program::from_choice(&file, precision_bits, &choice).unwrap();
    assert_eq!(Digest::of(&again.interface().to_bytes().unwrap()), versions[2]);
    registry.remove(&versions[2]).unwrap();
    assert!(registry.is_current(&versions[1]));
}

#[test]
fn a_name_stands_for_one_version_of_each_engine() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, mut registry) = open(dir.path());
    let batches = package("heart", 1);
    let exact = Package::exact("heart", &exact::testing::interface(), 40).unwrap();
    let versions = [batches.version(), exact.version()];
    assert_eq!(take_in(&mut registry, batches), []);
    assert_eq!(take_in(&mut registry, exact), []);
    assert!(versions.iter().all(|version| registry.is_current(version)));
    let record = &registry.models()[&versions[1]];
    assert_eq!((record.engine(), record.batch_ms), (Engine::Tfhe, 40));
    registry.remove(&versions[1]).unwrap();
    assert!(registry.is_current(&versions[0]));
}

#[test]
fn what_was_asked_last_is_what_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let model = package("heart", 1);
    let version = model.version();
    let asked = || {
        let waiting = pending(dir.path());
        waiting.into_iter().map(|(_, kind, _)| kind).collect::<Vec<_>>()
    };
    ask_removal(dir.path(), &version).unwrap();
    model.put(dir.path()).unwrap();
    assert_eq!(asked(), [ADD]);
    let arrival = Arrival::all(dir.path()).remove(0);
    ask_removal(dir.path(), &version).unwrap();
    assert_eq!(asked(), [REMOVE]);
    // Read before it was taken back.
    arrival.done(None).unwrap();
    assert_eq!(asked(), [REMOVE]);
}

#[test]
fn a_record_of_another_release_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (store, mut registry) = open(dir.path());
        take_in(&mut registry, package("heart", 1));
        let older: Table<u32> = Table::new("models", *b"MODL", 1);
        store
            .database()
            .repository(&older)
            .unwrap()
            .put([7; 32], &1)
            .unwrap();
    }
    for _ in 0..2 {
        let (_store, registry) = open(dir.path());
        assert_eq!(registry.models().len(), 1);
    }
}

#[test]
fn what_is_in_the_folder_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("models");
    let good = package("heart", 1);
    good.put(&folder).unwrap();
    let [arrival] = <[Arrival; 1]>::try_from(Arrival::all(&folder)).ok().unwrap();
    assert!(matches!(arrival.read(), Ok(Asked::Add(_))));
    arrival.done(None).unwrap();
    let other = Package {
        content: package("heart", 2).content,
        ..good.clone()
    };
    let renamed = Package {
        name: "study".into(),
        ..good.clone()
    };
    for wrong in [other, renamed] {
        wrong.put(&folder).unwrap();
        let [arrival] = <[Arrival; 1]>::try_from(Arrival::all(&folder)).ok().unwrap();
        let reason = arrival.read().err().unwrap();
        arrival.done(Some(&reason)).unwrap();
        let said = pending(&folder);
        assert_eq!(said, [(good.version(), FAILED, reason)]);
    }
    ask_removal(&folder, &good.version()).unwrap();
    let removals = Arrival::all(&folder);
    assert!(matches!(removals[0].read(), Ok(Asked::Remove(version)) if version == good.version()));
    for name in ["", "Heart", "study", "a b", &"x".repeat(33)] {
        assert!(check_name(name).is_err(), "{name}");
    }
}
