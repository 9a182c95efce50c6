//! What the built-in problems are called where people read.

/// Titles of the built-in problems.
const TITLES: [(&str, &str); 17] = [
    ("cifar100_3c3d", "CIFAR-100, 3c3d"),
    ("cifar100_allcnnc", "CIFAR-100, All-CNN-C"),
    ("cifar10_3c3d", "CIFAR-10, 3c3d"),
    ("cifar10_3c3d_sigmoid", "CIFAR-10, 3c3d with sigmoids"),
    ("cifar10_resnet20", "CIFAR-10, ResNet-20"),
    ("cifar10_vit", "CIFAR-10, vision transformer"),
    ("fmnist_2c2d", "Fashion-MNIST, 2c2d"),
    ("fmnist_autoencoder", "Fashion-MNIST, autoencoder"),
    ("fmnist_logreg", "Fashion-MNIST, logistic regression"),
    ("fmnist_mlp", "Fashion-MNIST, MLP"),
    ("mnist_2c2d", "MNIST, 2c2d"),
    ("mnist_autoencoder", "MNIST, autoencoder"),
    ("mnist_logreg", "MNIST, logistic regression"),
    ("mnist_mlp", "MNIST, MLP"),
    ("svhn_3c3d", "SVHN, 3c3d"),
    ("text_gpt", "Text, GPT"),
    ("text_lstm", "Text, LSTM"),
];

/// "Fashion-MNIST, MLP" for `fmnist_mlp`; a user's own problem keeps its name.
pub fn title(name: &str) -> &str {
    TITLES.iter().find(|(known, _)| *known == name).map_or(name, |(_, title)| title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_problem_has_a_title() {
        for name in crate::problems::definition::built_in_names() {
            assert_ne!(title(name), name);
        }
        assert_eq!(title("my_net"), "my_net");
    }
}
