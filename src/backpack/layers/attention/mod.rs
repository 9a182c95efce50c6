//! Attention: `attention`, a merge of queries, keys and values, and `self_attention`, a layer that splits them from its
//! input and has several heads.

mod core;
mod merge;
mod self_attention;

pub use merge::{Attention, AttentionOptions};
pub use self_attention::{SelfAttention, SelfAttentionOptions};
