//! Pooling over one to three axes.

mod adaptive_avg_pool;
mod avg_pool;
mod max_pool;
mod window;

pub use adaptive_avg_pool::{AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AdaptiveAvgPoolOptions};
pub use avg_pool::{
    AvgPool1d, AvgPool1dOptions, AvgPool2d, AvgPool2dOptions, AvgPool3d, AvgPool3dOptions, AvgPoolOptions,
};
pub use max_pool::{
    MaxPool1d, MaxPool1dOptions, MaxPool2d, MaxPool2dOptions, MaxPool3d, MaxPool3dOptions, MaxPoolOptions,
};
