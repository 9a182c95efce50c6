//! Random numbers of a batch by sample: those of a part are the same whether it is drawn by itself or within the whole.
//!
//! M numbers a sample lie as `[M, N, ..]`, so that each of the M rows is a stretch of the stream. A part takes its piece of
//! every row; the rows' generators go on where the part before it ended.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Tensor};

use crate::random::{normal, uniform};

/// The numbers of a batch, part by part in the samples' order.
#[derive(Debug)]
pub struct Draws {
    generator: ChaCha8Rng,
    /// The samples of the whole batch, and the first that is drawn for, where there is more than one part.
    parts: Option<(i64, i64)>,
    /// One for each of the M rows, once their number is known.
    rows: Vec<ChaCha8Rng>,
}

/// What is drawn.
#[derive(Clone, Copy)]
enum Law {
    Uniform,
    Normal,
}

impl Law {
    fn draw(self, generator: &mut ChaCha8Rng, shape: &[i64], device: Device) -> Tensor {
        match self {
            Law::Uniform => uniform(generator, shape, device),
            Law::Normal => normal(generator, shape).to_device(device),
        }
    }

    /// Goes on as if so many numbers had been drawn.
    fn skip(self, generator: &mut ChaCha8Rng, count: i64) {
        match self {
            Law::Uniform => generator.set_word_pos(generator.get_word_pos() + count as u128),
            // How much of the stream a normal number takes differs.
            Law::Normal => (0..count).for_each(|_| {
                let _: f64 = StandardNormal.sample(generator);
            }),
        }
    }
}

impl Draws {
    /// For a batch that is drawn for at once.
    pub fn whole(generator: ChaCha8Rng) -> Self {
        Draws { generator, parts: None, rows: Vec::new() }
    }

    /// For parts of a batch of `total` samples, one after the other, the first of which begins at the sample `start`.
    pub fn parts(generator: ChaCha8Rng, total: i64, start: i64) -> Self {
        Draws { generator, parts: Some((total, start)), rows: Vec::new() }
    }

    /// Uniform numbers in [0, 1), `[M, n, ..]` for the next n samples, f32.
    pub fn uniform(&mut self, shape: &[i64], device: Device) -> Tensor {
        self.next(Law::Uniform, shape, device)
    }

    /// Standard normal numbers, `[M, n, ..]` for the next n samples, f64.
    pub fn normal(&mut self, shape: &[i64], device: Device) -> Tensor {
        self.next(Law::Normal, shape, device)
    }

    fn next(&mut self, law: Law, shape: &[i64], device: Device) -> Tensor {
        let (Some((total, start)), [draws, _, sample @ ..]) = (self.parts, shape) else {
            return law.draw(&mut self.generator, shape, device);
        };
        if self.rows.is_empty() {
            let each: i64 = sample.iter().product();
            for _ in 0..*draws {
                law.skip(&mut self.generator, start * each);
                self.rows.push(self.generator.clone());
                law.skip(&mut self.generator, (total - start) * each);
            }
        }
        let rows: Vec<Tensor> = self.rows.iter_mut().map(|row| law.draw(row, &shape[1..], device)).collect();
        Tensor::stack(&rows, 0)
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn parts_are_pieces_of_the_whole() {
        let key = || stream(3, Purpose::SampledLabels, 0);
        let cpu = Device::Cpu;
        let whole = [
            Draws::whole(key()).uniform(&[3, 7, 2], cpu).to_kind(Kind::Double),
            Draws::whole(key()).normal(&[3, 7, 2], cpu),
        ];
        assert_eq!(whole[1], normal(&mut key(), &[3, 7, 2]), "the numbers of a batch are those of the stream");
        for start in [0, 2] {
            let (mut uniforms, mut normals) = (Draws::parts(key(), 7, start), Draws::parts(key(), 7, start));
            for (from, count) in [(start, 3), (start + 3, 1), (start + 4, 7 - start - 4)] {
                let shape = [3, count, 2];
                assert_eq!(uniforms.uniform(&shape, cpu).to_kind(Kind::Double), whole[0].narrow(1, from, count));
                assert_eq!(normals.normal(&shape, cpu), whole[1].narrow(1, from, count));
            }
        }
    }
}
