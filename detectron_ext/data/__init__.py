"""From a data set's name to minibatches: catalog, COCO JSON, records, transforms, loader."""
