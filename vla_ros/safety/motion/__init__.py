"""Motion generation: filters, joint motion, collision, final check of every command."""
