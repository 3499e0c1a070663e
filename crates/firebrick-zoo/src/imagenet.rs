//! The 1,000 class names of ImageNet.

/// Names of the 1,000 classes of ILSVRC 2012 in the order of the logits, in torchvision's wording.
pub fn imagenet_classes() -> Vec<String> {
    include_str!("../../../assets/imagenet_classes.txt").lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_are_a_thousand_and_known_ones_stand_where_they_should() {
        let classes = super::imagenet_classes();
        assert_eq!(classes.len(), 1000);
        assert_eq!(
            (classes[0].as_str(), classes[243].as_str(), classes[999].as_str()),
            ("tench", "bull mastiff", "toilet tissue")
        );
    }
}
