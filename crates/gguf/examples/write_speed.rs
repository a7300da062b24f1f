//! Time to write a file of many equal tensors: `write_speed DIRECTORY [MIB] [THREADS] [PIECE_KIB]`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use slmc_gguf::TensorType;
use slmc_gguf::container::{Layout, Metadata, Writer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let directory = args.next().ok_or("a directory is needed")?;
    let mut number = |default| args.next().map_or(Ok(default), |a| a.parse::<usize>());
    let (mib, threads, piece) = (number(1300)?, number(2)?, number(1024)? << 10);

    let shape = vec![2048, 2048 + 16]; // 16.1 MiB, so that tensors share pages
    let count = (mib << 20) / (2048 * 2064 * 4);
    let tensors = (0..count).map(|i| (format!("blk.{i}.weight"), shape.clone(), TensorType::F32));
    let layout = Layout::new(Metadata::new(), tensors)?;
    let bytes: Vec<u8> = (0..piece).map(|i| (i * 7 + i / 255) as u8).collect();

    let start = Instant::now();
    let writer = Writer::create(&std::path::Path::new(&directory).join("write_speed.gguf"), layout)?;
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(t) = writer.layout().tensors().get(next.fetch_add(1, Ordering::Relaxed)) {
                        for at in (0..t.byte_len()).step_by(piece) {
                            let length = piece.min(t.byte_len() - at);
                            writer.write(&t.name, at as u64, &bytes[..length])?;
                        }
                    }
                    Ok::<_, slmc_gguf::container::ContainerError>(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|w| w.join().expect("a worker panicked"))
    })?;
    let written = start.elapsed().as_secs_f64();
    let total = writer.layout().total_bytes();
    writer.finish()?;
    let all = start.elapsed().as_secs_f64();
    println!(
        "{total} bytes: handed over in {written:.2} s, durable in {all:.2} s, {:.0} MB/s",
        total as f64 / 1e6 / all
    );
    Ok(())
}
