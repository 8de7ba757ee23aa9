//! Data sets in each format.

use crate::Folder;
use flate2::{Compression, write::GzEncoder};
use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An array as NumPy writes it.
fn array(kind: &str, shape: &str, numbers: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let length = (text.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], text.as_bytes(), numbers].concat()
}

fn idx(kind: u8, dimensions: &[u32], numbers: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, kind, dimensions.len() as u8];
    dimensions.iter().for_each(|d| file.extend(d.to_be_bytes()));
    file.extend(numbers);
    file
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn cut(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
}

/// The second selecting byte is the schema, and 4 more where the file is compressed.
pub(crate) fn sets(to: &Folder) {
    let put = |name: &str, which: [u8; 2], bytes: &[u8]| to.put_deep("data_sets", name, which, bytes);
    let labels = idx(8, &[2], &[2, 0]);
    let images = idx(8, &[2, 2, 3], &[0, 51, 102, 153, 204, 255, 5, 4, 3, 2, 1, 0]);
    put("idx", [0, 2], &[cut(&labels), images.clone()].concat());
    put(
        "idx-gz",
        [0, 6],
        &[cut(&packed(&labels)), packed(&images)].concat(),
    );
    let numbers = idx(0x0d, &[2], &[63, 128, 0, 0, 64, 0, 0, 0]);
    let planes = idx(0x0b, &[2, 2, 1, 2], &[0; 16]);
    put("idx-numbers", [0, 3], &[cut(&numbers), planes].concat());

    let table = "age,chol,y,site\n40,200.5,0,a\n?,180,2,b\n61, \"233\",1,a\n55,,0,b\n";
    put("csv", [1, 0], table.as_bytes());
    put("csv-gz", [1, 4], &packed(table.as_bytes()));
    put(
        "csv-row",
        [1, 1],
        b"a,b,c,y,record\r\n1,2,3,N,p\r\n4,5e-3,6,V,q\r\n",
    );

    let row = [
        array("<i2", "2, 3,", &[1, 0, 2, 0, 3, 0, 255, 255, 5, 0, 6, 0]),
        array("|u1", "2, 1,", &[2, 0]),
        array("<i4", "2,", &[1, 0, 0, 0, 2, 0, 0, 0]),
    ];
    let mut table = [0.5f32, f32::NAN, 2.0, -1.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect::<Vec<u8>>();
    table = array("<f4", "2, 2,", &table);
    let plane = [
        array("|u1", "2, 1, 2, 2,", &[0, 51, 102, 153, 255, 0, 255, 0]),
        array(
            "<f8",
            "2,",
            &[1.5f64.to_le_bytes(), 2.5f64.to_le_bytes()].concat(),
        ),
        array("|i1", "2,", &[1, 1]),
    ];
    let sites = [
        table,
        array("|b1", "2,", &[0, 1]),
        Vec::new(),
        array(
            "<u8",
            "2,",
            &[[7, 0, 0, 0, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0, 0, 0]].concat(),
        ),
    ];
    for (name, schema, arrays) in [("row", 1, &row[..]), ("plane", 3, &plane), ("sites", 0, &sites)] {
        let cut: Vec<u8> = arrays.iter().flat_map(|array| cut(array)).collect();
        put(&format!("arrays-{name}"), [3, schema], &cut);
        for (how, method) in [
            ("stored", CompressionMethod::Stored),
            ("deflated", CompressionMethod::Deflated),
        ] {
            let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
            let options = SimpleFileOptions::default().compression_method(method);
            for (name, array) in ["x", "y", "record", "site"].iter().zip(arrays) {
                zip.start_file(format!("{name}.npy"), options).unwrap();
                zip.write_all(array).unwrap();
            }
            let archive = zip.finish().unwrap().into_inner();
            put(&format!("npz-{name}-{how}"), [2, schema], &archive);
        }
    }
}
