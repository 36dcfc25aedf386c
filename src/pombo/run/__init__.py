"""The composition root: settings become objects, objects become roles. Imports everything, imported by nothing."""
