"""Files that the package ships: trained networks, and what tissues look like."""
