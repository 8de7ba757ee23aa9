//! Operations that overwrite a result of the caller's allocate nothing once they have run before: buffers are borrowed and given back.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use allocation_counter::measure;
use common::{tiny_of, values};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;
use galen_rns::ring::RingKind;
use std::hint::black_box;

/// Allocations of this thread in a run after many, the first of which may grow buffers.
fn allocations(mut run: impl FnMut() -> Result<(), CkksError>) -> u64 {
    (0..20).for_each(|_| run().unwrap());
    measure(|| run().unwrap()).count_total
}

#[test]
fn the_counter_counts() {
    let allocate = || drop(black_box(vec![0u8; 100]));
    assert_eq!(measure(allocate).count_total, 1);
}

#[test]
fn operations_into_used_memory_allocate_nothing() {
    for kind in [RingKind::Cyclotomic, RingKind::ConjugateInvariant] {
        let context = tiny_of(kind, 5, 2, 2);
        let key = SecretKey::from_seed(&context, &[5; 32]).unwrap();
        let (relin, galois) = (key.relin_key().unwrap(), key.galois_keys(&[1, 3]).unwrap());
        let ev = Evaluator::new(&context).with_min_precision(-1000.0);
        let n = context.slots();
        let scale = context.scale(4).unwrap();
        let (slots, public) = (values(n, 1), key.public_key().unwrap());
        let plain = context.encode_at(&slots, 1.0, 4, scale).unwrap();
        let extended_plain = context.encode_extended(&values(n, 2), 1.0, 4, scale).unwrap();
        let [a, b] = [1, 2].map(|seed| key.encrypt_with_seed(&plain, &[seed; 32]).unwrap());
        let square = ev.square(&a).unwrap();
        let target = context.product_target(4).unwrap();
        let hoisted = ev.hoist(&a).unwrap();
        let rotated = ev.rotate_extended(&hoisted, 1, &galois).unwrap();

        let mut out = ev.empty();
        let mut found = Vec::new();
        let mut none = |name, run: &mut dyn FnMut(&mut Ciphertext) -> Result<(), CkksError>| {
            found.push((name, allocations(|| run(&mut out))));
        };
        none("add", &mut |o| ev.add_into(&a, &b, o));
        none("add in place", &mut |o| ev.add_assign(o, &b));
        none("subtract", &mut |o| ev.sub_into(&a, &b, o));
        none("subtract in place", &mut |o| ev.sub_assign(o, &b));
        none("negate", &mut |o| ev.neg_assign(o));
        none("add a plaintext", &mut |o| ev.add_plain_assign(o, &plain));
        none("add a constant", &mut |o| ev.add_scalar_assign(o, 0.5));
        none("times an integer", &mut |o| ev.mul_integer_assign(o, 1));
        none("times a plaintext", &mut |o| ev.mul_plain_into(&a, &plain, o));
        none("times a plaintext, rescale", &mut |o| {
            ev.mul_plain_rescale_into(&a, &plain, o)
        });
        none("times a constant", &mut |o| {
            ev.mul_scalar_into(&a, 0.3, target, o)
        });
        none("product", &mut |o| ev.multiply_into(&a, &b, o));
        none("sum of products", &mut |o| ev.multiply_add_assign(o, &a, &b));
        none("square", &mut |o| ev.square_into(&a, o));
        none("relinearise", &mut |o| ev.relinearise_into(&square, &relin, o));
        none("rescale", &mut |o| ev.rescale_into(&square, o));
        none("relinearise, rescale", &mut |o| {
            ev.relin_rescale_into(&square, &relin, o)
        });
        none("product, relinearise, rescale", &mut |o| {
            ev.multiply_relin_rescale_into(&a, &b, &relin, o)
        });
        none("drop levels", &mut |o| ev.drop_level_into(&a, 1, o));
        none("rotate", &mut |o| ev.rotate_into(&a, 3, &galois, o));
        none("rotate, hoisted", &mut |o| {
            ev.rotate_from_into(&hoisted, 3, &galois, o)
        });
        none("divide a sum over QP", &mut |o| ev.reduce_into(&rotated, o));

        let mut again = ev.empty_hoisted();
        found.push(("hoist", allocations(|| ev.hoist_into(&a, &mut again))));
        let mut sum = ev.empty_extended();
        let rotate = || ev.rotate_extended_into(&hoisted, 3, &galois, &mut sum);
        found.push(("rotate over QP", allocations(rotate)));
        let multiply = || ev.mul_extended_into(&rotated, &extended_plain, &mut sum);
        found.push(("times a plaintext over QP", allocations(multiply)));
        let mut message = plain.clone();
        let decrypt = || key.decrypt_into(&a, &mut message);
        found.push(("decrypt", allocations(decrypt)));
        found.retain(|&(_, count)| count > 0);
        assert_eq!(found, [], "{kind:?}");

        // Buffers of a call, wiped at its end; as many at any degree and level.
        let encode = || context.encode_at_into(&slots, 1.0, 4, scale, &mut message);
        assert!(allocations(encode) <= 4, "encode, {kind:?}");
        let encrypt = || key.encrypt_into(&plain, &mut out);
        assert!(allocations(encrypt) <= 4, "encrypt, secret key, {kind:?}");
        let encrypt = || public.encrypt_into(&plain, &mut out);
        assert!(allocations(encrypt) <= 4, "encrypt, public key, {kind:?}");
    }
}
