"""Workers: they claim, run and finish jobs; a supervisor watches over them."""
